"""Writes the records of a run: a file of JSON lines that is only appended to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flatvq.appended import AppendedFile
from flatvq.files import finite

__all__ = ["RecordWriter"]


class RecordWriter:
    """Appends records to a file of JSON lines (docs/records.md).

    Opening the file removes a last line that a kill cut off, so that the next record starts on a new line.

    Args:
        path: the file; created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.dropped = _drop_cut_line(path)
        """The number of bytes of the cut-off last line that were removed."""
        self._file = AppendedFile(path)

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append one record and pass it to the kernel, so that a killed process does not lose it.

        Args:
            kind: the kind of the record.
            values: its other keys and values.

        Returns:
            The values as written. NaN and infinity are None.

        Raises:
            OSError: if it cannot be written, for example on a full disk. The file then ends with the record
                before it.
        """
        written: dict[str, Any] = finite(values)
        line = json.dumps({"kind": kind, **written}, allow_nan=False) + "\n"
        self._file.write(line.encode())
        return written

    def sync(self) -> None:
        """Force the records to the disk, so that a power failure does not lose them."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _drop_cut_line(path: Path) -> int:
    """Remove a last line without a line end; return the number of bytes removed."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        with path.open("r+b") as file:
            file.truncate(complete)
    return len(content) - complete
