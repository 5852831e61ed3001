"""Values over steps, from the records of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["Point", "last_of", "points"]

Point = tuple[float, float]
"""A step and the value at this step."""


def last_of(rows: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the records of one kind, sorted by step; the last one for each step and level.

    Example:
        >>> rows = [{"kind": "train", "step": 1, "loss": 9}, {"kind": "train", "step": 1, "loss": 5}]
        >>> last_of(rows, "train")
        [{'kind': 'train', 'step': 1, 'loss': 5}]
    """
    by_step = {
        (row["step"], level): row
        for row in rows
        if row.get("kind") == kind
        and isinstance(row.get("step"), int)
        and isinstance(level := row.get("level", 0), int)
    }
    return [by_step[key] for key in sorted(by_step)]


def points(rows: Iterable[dict[str, Any]], key: str) -> list[Point]:
    """Return step and value of each record that has a number under the key.

    Example:
        >>> points([{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}], "loss")
        [(1.0, 0.5)]
    """
    return [(float(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), int | float)]
