"""Translate errors of the operating system and of torch into one line for the user.

Other exceptions are bugs in flatvq. They keep their traceback.
"""

from __future__ import annotations

import errno
import os
import re

from flatvq.credentials import without_credentials
from flatvq.errors import FlatvqError, StorageError

__all__ = ["cause_of", "explained", "in_bytes"]

_RERUN = "run the same command again"
_STORAGE = {
    errno.ENOSPC: f"make space, then {_RERUN}",
    errno.EDQUOT: f"make space within your quota, then {_RERUN}",
    errno.EFBIG: f"raise the limit on file sizes (ulimit -f), then {_RERUN}",
    errno.EIO: f"check the disk, then {_RERUN}",
}
_REMEDIES = {
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written to",
    errno.ENAMETOOLONG: "shorten it",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "end other programs, or set workers lower",
    errno.EAGAIN: "raise the limit on processes (ulimit -u), or set workers lower",
    errno.EPIPE: _RERUN,
    errno.ECONNRESET: _RERUN,
}

# The messages of torch on a CPU, on CUDA and on MPS: `you tried to allocate 1600000000000 bytes`,
# `Tried to allocate 20.00 GiB`, `Invalid buffer size: 9.31 GiB`.
_ALLOCATION = re.compile(r"(?:tried to allocate|Invalid buffer size:) ([\d.]+ \w+)", re.IGNORECASE)
_SIZE_OVERFLOW = "Storage size calculation overflowed"
_USE_LESS_MEMORY = "lower train.batch_size, data.crop, or the model's width, codebook_size or code_dim"


def explained(error: BaseException) -> FlatvqError | None:
    """Translate an error into a `FlatvqError`.

    Args:
        error: any exception.

    Returns:
        The error to show to the user; None if the exception points to a bug in flatvq.

    Example:
        >>> print(explained(PermissionError(errno.EACCES, "Permission denied", "runs")))
        cannot use 'runs' (permission denied): change its permissions, or choose another path
        >>> print(explained(MemoryError()))
        not enough memory: lower train.batch_size, data.crop, or the model's width, codebook_size or code_dim
        >>> explained(KeyError("width")) is None
        True
    """
    if isinstance(error, FlatvqError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return _system_error(error.errno, error.strerror or os.strerror(error.errno), error.filename)
    return _memory_error(error)


def cause_of(error: BaseException) -> str:
    r"""Describe any error in one line.

    Args:
        error: any exception.

    Returns:
        The translated error, or else the class and the first line of the text.

    Example:
        >>> cause_of(ValueError("first line\nsecond line"))
        'ValueError: first line'
    """
    translated = explained(error)
    if translated is not None:
        return str(translated)
    lines = without_credentials(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def in_bytes(number: int) -> str:
    """Format a number of bytes in decimal units.

    Args:
        number: bytes, not negative.

    Example:
        >>> in_bytes(999), in_bytes(1_600_000_000_000)
        ('999 bytes', '1.6 TB')
    """
    power = min((len(str(number)) - 1) // 3, 6)
    unit = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{number / 1000**power:,.1f} {unit}" if power else f"{number} {unit}"


def _system_error(number: int, reason: str, path: object) -> FlatvqError:
    kind = StorageError if number in _STORAGE else FlatvqError
    remedy = _STORAGE.get(number) or _REMEDIES.get(number) or "check the path"
    verb = "write" if number in _STORAGE or number == errno.EROFS else "use"
    action = f"{verb} {os.fsdecode(path)!r}" if isinstance(path, str | bytes | os.PathLike) else "continue"
    return kind(f"cannot {action} ({reason[0].lower()}{reason[1:]})", remedy)


def _memory_error(error: BaseException) -> FlatvqError | None:
    text = str(error)
    allocation = _ALLOCATION.search(text)
    by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    by_text = isinstance(error, RuntimeError) and (allocation or _SIZE_OVERFLOW in text)
    if not (by_type or by_text):
        return None
    size = allocation[1] if allocation else ""
    if size.endswith(" bytes"):
        size = in_bytes(int(size.removesuffix(" bytes")))
    return FlatvqError(f"not enough memory{f' for {size} more' if size else ''}", _USE_LESS_MEMORY)
