"""Writing a run's records: JSON lines that are only ever appended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flatvq.files import AppendedFile, finite

__all__ = ["RecordWriter"]


class RecordWriter:
    """Appends records to a file of JSON lines (docs/records.md).

    A last line that a kill cut off is removed when the file is opened again, so that the next record starts
    on a line of its own.

    Args:
        path: the file; made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.dropped = _drop_cut_line(path)
        """Bytes of a cut-off last line that were removed."""
        self._file = AppendedFile(path)

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append one record and hand it to the kernel, so that a killed process loses none.

        Returns:
            The values as they were written: NaN and infinity are null.

        Raises:
            OSError: if it cannot be written, such as on a full disk; the file ends with the record before it.
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
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return len(content) - whole
