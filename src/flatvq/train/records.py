"""Writing a run's records: JSON lines that are only ever appended, and small JSON files replaced whole."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

__all__ = ["RecordWriter", "write_json"]


class RecordWriter:
    """Appends records to a file of JSON lines (docs/records.md).

    A last line that a kill cut off is removed when the file is opened again, so that what is appended starts
    on a line of its own.

    Args:
        path: the file; made if absent.
    """

    def __init__(self, path: Path) -> None:
        self.dropped = _drop_cut_line(path)
        """Bytes of a cut-off last line that were removed."""
        self._file = path.open("a", encoding="utf-8")

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append one record and hand it to the kernel, so that a killed process loses none.

        Returns:
            The values as they were written: NaN and infinity are null.
        """
        finite: dict[str, Any] = _finite(values)
        self._file.write(json.dumps({"kind": kind, **finite}, allow_nan=False) + "\n")
        self._file.flush()
        return finite

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name, sync and rename it: readers see all of it or the old one."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(_finite(value), file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _drop_cut_line(path: Path) -> int:
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return len(content) - whole


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
