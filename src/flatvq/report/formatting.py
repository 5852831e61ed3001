"""Settings, axis ticks and names as text, for the report. Numbers are in `flatvq.number_format`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatvq.number_format import Number

__all__ = ["as_text", "level_name", "setting", "solver_changes", "tick"]


def setting(value: Any) -> str:
    """Format the value of a hyper-parameter, numbers with three digits.

    Example:
        >>> setting(0.0012345), setting(64), setting("kmeans")
        ('0.00123', '64', 'kmeans')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tick(value: Number) -> str:
    """Format a number for the tick of an axis.

    Example:
        >>> tick(0.05), tick(-2.0), tick(25000), tick(600)
        ('0.05', '−2', '25k', '600')
    """
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if prefix == 'k' else size):g}{prefix}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def level_name(level: int, levels: int) -> str:
    """Return the name of a level, counted from the finest grid.

    Example:
        >>> [level_name(i, 3) for i in range(3)], level_name(0, 1), level_name(1, 4)
        (['bottom', 'middle', 'top'], 'only level', 'level 2 of 4')
    """
    names = {1: ["only level"], 2: ["bottom", "top"], 3: ["bottom", "middle", "top"]}
    return names[levels][level] if levels in names else f"level {level + 1} of {levels}"


def as_text(value: Any) -> str:
    """Return a small JSON value as text.

    Example:
        >>> as_text({"levels.0.codebook_size": 2435, "width": [64, 72]}), as_text({}), as_text("2 cores")
        ('levels.0.codebook_size: 2435, width: 64, 72', '', '2 cores')
    """
    if isinstance(value, dict):
        return ", ".join(f"{key}: {as_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(as_text(item) for item in value)
    return "" if value is None else str(value)


def solver_changes(changes: Any) -> str:
    """Return the changes of the matching solver as text: old and new value by key.

    Example:
        >>> solver_changes({"levels.0.codebook_size": [1024, 1625], "width": 72}), solver_changes(None)
        ('levels.0.codebook_size: 1024 → 1625, width: 72', '')
    """
    if not isinstance(changes, dict):
        return as_text(changes)
    pairs = {
        key: f"{as_text(value[0])} → {as_text(value[1])}" if _is_pair(value) else value
        for key, value in changes.items()
    }
    return as_text(pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2
