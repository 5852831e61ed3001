"""Converts a `study.json` of format 2 to format 3.

In format 2, `parameters` left out the codebooks, and `multiply_adds` left out the nearest-code searches. In
format 3 these counts are `network_parameters` and `network_multiply_adds`, and the old names hold the totals.
"""

from __future__ import annotations

from typing import Any

__all__ = ["to_format_3"]

# The part that the old count left out, by the key of the count.
_LEFT_OUT = {"parameters": "codebook_parameters", "multiply_adds": "search_multiply_adds"}


def to_format_3(tree: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a `study.json` of format 2.

    The old counts, the matching rule and the residuals get the names of the counts without codebooks and
    searches. The totals, and their residuals, are added.

    Args:
        tree: the content. It is not changed. A value of an unexpected type is kept.

    Returns:
        The content in format 3.

    Example:
        >>> arm = {"name": "one", "parameters": 100, "codebook_parameters": 20}
        >>> to_format_3({"format": 2, "arms": [arm]})["arms"]
        [{'name': 'one', 'parameters': 120, 'codebook_parameters': 20, 'network_parameters': 100}]
    """
    converted = {**tree, "format": 3}
    if isinstance(tree.get("arms"), list):
        converted["arms"] = [_arm(arm) if isinstance(arm, dict) else arm for arm in tree["arms"]]
    if isinstance(tree.get("match"), dict):
        converted["match"] = _match(tree["match"], converted.get("arms"))
    return converted


def _arm(arm: dict[str, Any]) -> dict[str, Any]:
    converted = dict(arm)
    for key, part in _LEFT_OUT.items():
        if key in arm:
            converted[f"network_{key}"] = arm[key]
            both = isinstance(arm[key], int) and isinstance(arm.get(part), int)
            converted[key] = arm[key] + arm[part] if both else None
    return converted


def _match(match: dict[str, Any], arms: Any) -> dict[str, Any]:
    converted = dict(match)
    if isinstance(match.get("capacities"), list):
        converted["capacities"] = [_renamed(key) for key in match["capacities"]]
    if isinstance(match.get("residuals"), dict):
        by_name = (
            {arm.get("name"): arm for arm in arms if isinstance(arm, dict)} if isinstance(arms, list) else {}
        )
        reference = by_name.get(match.get("reference"), {})
        converted["residuals"] = {
            name: _residuals(values, by_name.get(name, {}), reference) if isinstance(values, dict) else values
            for name, values in match["residuals"].items()
        }
    return converted


def _residuals(values: dict[str, Any], arm: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    converted = {_renamed(key): value for key, value in values.items()}
    for key in _LEFT_OUT:
        total, other = arm.get(key), reference.get(key)
        if key in values and isinstance(total, int) and isinstance(other, int) and other:
            converted[key] = total / other - 1
    return converted


def _renamed(key: Any) -> Any:
    return f"network_{key}" if key in _LEFT_OUT else key
