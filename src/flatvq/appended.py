"""A file that grows by complete records, such as the records of a training."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["AppendedFile"]


class AppendedFile:
    """A file to which complete records are appended.

    If a write fails, the file is truncated to the end of the previous record. A kill can leave a part of the
    last record.

    Args:
        path: the file; created if it does not exist.

    Raises:
        OSError: if the file cannot be opened or written. The error names `path`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = AppendedFile(Path(folder) / "records.jsonl")
        ...     file.write(b"1")
        ...     file.close()
        ...     file.path.read_bytes()
        b'1'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Without O_BINARY, Windows writes a carriage return before each line feed.
        self._descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)

    def write(self, record: bytes) -> None:
        """Append a record. The kernel has it on return, so a kill of the process does not lose it."""
        before = os.fstat(self._descriptor).st_size
        unwritten = memoryview(record)
        try:
            while unwritten:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
        except BaseException as error:
            os.ftruncate(self._descriptor, before)
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            raise

    def sync(self) -> None:
        """Sync the content to disk, so that a power failure does not lose it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
