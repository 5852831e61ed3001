"""Opens regular files only: a FIFO would wait for a writer forever, and a device has no end."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from flatvq.errors import FlatvqError

__all__ = ["kind_of", "open_regular", "read_regular", "require_regular"]

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(mode: int) -> str:
    """Describe a file that is neither a regular file nor a folder.

    Args:
        mode: its `st_mode`.

    Example:
        >>> kind_of(stat.S_IFIFO | 0o644)
        'a FIFO'
    """
    return _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def require_regular(path: Path) -> int:
    """Check that a path leads to a regular file or to a folder (opening a folder fails later).

    Args:
        path: the path. Links are followed.

    Returns:
        The size in bytes.

    Raises:
        FlatvqError: if it is a FIFO, a socket or a device.
        OSError: if there is no such file, or it cannot be reached.

    Example:
        >>> require_regular(Path("/dev/null"))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: '/dev/null' is a device: give a regular file
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise FlatvqError(f"'{path}' is {kind_of(status.st_mode)}", "give a regular file")
    return status.st_size


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read bytes.

    Raises:
        FlatvqError: if the path is a FIFO, a socket or a device.
        OSError: if the file cannot be opened.
    """
    require_regular(path)
    return path.open("rb")


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        most: the largest accepted size in bytes, so that a damaged file cannot exhaust the memory.

    Raises:
        FlatvqError: if the path is a FIFO, a socket or a device, or the file is larger.
        OSError: if the file cannot be read.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile() as file:
        ...     read_regular(Path(file.name), most=0)
        b''
    """
    size = require_regular(path)
    if size > most:
        what = f"'{path}' has {size:,} bytes, more than {most:,}"
        raise FlatvqError(what, "check that it is the right file")
    return path.read_bytes()
