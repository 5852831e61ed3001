"""Reading the plain files that trials and studies write (docs/records.md).

JSON knows neither infinity nor NaN. Where a writer let one slip through, it reads as null: no number.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError

__all__ = ["JsonLines", "Point", "last_of", "load_jsonl", "points", "read_json", "read_jsonl"]

Point = tuple[float, float]
"""A step and the value at it."""


@dataclass(frozen=True)
class JsonLines:
    """The objects of a JSON-lines file, and whether its last line was cut off and dropped."""

    rows: list[dict[str, Any]]
    truncated: bool


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        What it holds; numbers that are not finite as None.

    Raises:
        FlatvqError: if the file cannot be read or is not JSON.
    """
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise FlatvqError(f"cannot read {str(path)!r} ({type(error).__name__})", "check the path") from None
    except ValueError:
        raise FlatvqError(f"{str(path)!r} is not JSON", "write it again by running the study again") from None


def load_jsonl(path: Path) -> JsonLines:
    """Read a file of one JSON object a line; a last line that a kill cut off is dropped.

    Args:
        path: the file.

    Returns:
        The objects in the file's order, and whether a last line was dropped.

    Raises:
        FlatvqError: if the file cannot be read, or a line before the last is damaged.
    """
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise FlatvqError(f"cannot read {str(path)!r} ({type(error).__name__})", "check the path") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_object(line))
        except ValueError:
            if number < len(lines):
                what = f"record {number} of {str(path)!r} is not a JSON object"
                raise FlatvqError(what, "remove that line") from None
            return JsonLines(rows, truncated=True)
    return JsonLines(rows, truncated=False)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a cut-off last line is dropped with a word in the log.

    Args:
        path: the file.

    Returns:
        The objects in the file's order.

    Raises:
        FlatvqError: if the file cannot be read, or a line before the last is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "records.jsonl"
        ...     _ = path.write_text('{"kind": "train", "step": 1}' + chr(10) + '{"kind": "tra')
        ...     logging.disable(logging.WARNING)
        ...     read_jsonl(path)
        ...     logging.disable(logging.NOTSET)
        [{'kind': 'train', 'step': 1}]
    """
    lines = load_jsonl(path)
    if lines.truncated:
        logging.getLogger(__name__).warning("%s: the last line was cut off and is dropped", path)
    return lines.rows


def last_of(rows: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind by step; of those with the same step and level the last one counts.

    Example:
        >>> rows = [{"kind": "train", "step": 1, "loss": 9}, {"kind": "train", "step": 1, "loss": 5}]
        >>> last_of(rows, "train")
        [{'kind': 'train', 'step': 1, 'loss': 5}]
    """
    chosen = {
        (row["step"], level): row
        for row in rows
        if row.get("kind") == kind
        and isinstance(row.get("step"), int)
        and isinstance(level := row.get("level", 0), int)
    }
    return [chosen[key] for key in sorted(chosen)]


def points(rows: Iterable[dict[str, Any]], key: str) -> list[Point]:
    """Return step and value where a record has a number under the key.

    Example:
        >>> points([{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}], "loss")
        [(1.0, 0.5)]
    """
    return [(float(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), int | float)]


def _object(line: bytes) -> dict[str, Any]:
    value = _parse(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _parse(text: bytes) -> Any:
    return json.loads(text.decode("utf-8"), parse_constant=lambda _: None, parse_float=_finite)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if isfinite(value) else None
