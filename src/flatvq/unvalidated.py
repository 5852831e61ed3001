"""Reads small JSON files without a schema: a value of another type than expected counts as missing.

Thousands of these files are read for one command, while other processes write them. For all other files,
`flatvq.records` has schemas.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["count_in", "json_object", "number_in", "text_in"]

_LARGEST = 2**53
_LONGEST = 4000


def json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object; return an empty dictionary if the bytes are not a JSON object.

    Example:
        >>> json_object(b'{"step": 3}'), json_object(b'{"step"'), json_object(b"[]")
        ({'step': 3}, {}, {})
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def count_in(tree: dict[str, Any], key: str) -> int | None:
    """Return the integer under a key; None if it is missing or not in [0, 2^53].

    Example:
        >>> count_in({"step": 3}, "step"), count_in({"step": "3"}, "step"), count_in({"step": -1}, "step")
        (3, None, None)
    """
    value = tree.get(key)
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def number_in(tree: dict[str, Any], key: str) -> float | None:
    """Return the number under a key; None if it is missing, not finite, or above 2^53 in magnitude.

    Example:
        >>> number_in({"time": 1}, "time"), number_in({"time": True}, "time")
        (1.0, None)
    """
    value = tree.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST else None  # false for NaN


def text_in(tree: dict[str, Any], key: str) -> str | None:
    """Return the text under a key as one line of at most 4,000 characters; None if it is missing.

    Example:
        >>> text_in({"host": "a"}, "host"), text_in({"host": 7}, "host")
        ('a', None)
    """
    value = tree.get(key)
    return " ".join(value[:_LONGEST].split()) if isinstance(value, str) else None
