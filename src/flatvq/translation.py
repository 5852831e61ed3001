"""Errors of the operating system and of torch, translated into one line for the user.

Other exceptions are faults of flatvq itself. They keep their traceback.
"""

from __future__ import annotations

import errno
import os
import re

from flatvq.errors import FlatvqError, StorageError

__all__ = ["cause_of", "explained", "in_bytes"]

_AGAIN = "run the same command again"
_STORAGE = {
    errno.ENOSPC: f"make space, then {_AGAIN}",
    errno.EDQUOT: f"make space within your quota, then {_AGAIN}",
    errno.EFBIG: f"raise the limit on file sizes (ulimit -f), then {_AGAIN}",
    errno.EIO: f"check the disk, then {_AGAIN}",
}
_REMEDIES = {
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written to",
    errno.ENAMETOOLONG: "shorten it",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "end other programs, or set workers lower",
    errno.EAGAIN: "raise the limit on processes (ulimit -u), or set workers lower",
    errno.EPIPE: _AGAIN,
    errno.ECONNRESET: _AGAIN,
}

# torch on a CPU, on CUDA and on MPS: `you tried to allocate 1600000000000 bytes`,
# `Tried to allocate 20.00 GiB`, `Invalid buffer size: 9.31 GiB`.
_ALLOCATION = re.compile(r"(?:tried to allocate|Invalid buffer size:) ([\d.]+ \w+)", re.IGNORECASE)
_BEYOND_ADDRESSES = "Storage size calculation overflowed"
_LESS_MEMORY = "lower train.batch_size, data.crop, or the model's width, codebook_size or code_dim"


def explained(error: BaseException) -> FlatvqError | None:
    """Translate an error.

    Args:
        error: whatever was raised.

    Returns:
        What to tell the user; None for an error that only a fault in flatvq explains.

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
        return _cannot(error.errno, error.strerror or os.strerror(error.errno), error.filename)
    return _beyond_memory(error)


def cause_of(error: BaseException) -> str:
    r"""Return an error in one line, whether it can be explained or not.

    Example:
        >>> cause_of(ValueError("first line\nsecond line"))
        'ValueError: first line'
    """
    known = explained(error)
    if known is not None:
        return str(known)
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def in_bytes(number: int) -> str:
    """Write a number of bytes as people say it.

    Example:
        >>> in_bytes(999), in_bytes(1_600_000_000_000)
        ('999 bytes', '1.6 TB')
    """
    power = min((len(str(number)) - 1) // 3, 6)
    unit = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{number / 1000**power:,.1f} {unit}" if power else f"{number} {unit}"


def _cannot(number: int, reason: str, path: object) -> FlatvqError:
    kind = StorageError if number in _STORAGE else FlatvqError
    remedy = _STORAGE.get(number) or _REMEDIES.get(number) or "check the path"
    act = "write" if number in _STORAGE or number == errno.EROFS else "use"
    name = f"{act} {os.fsdecode(path)!r}" if isinstance(path, str | bytes | os.PathLike) else "go on"
    return kind(f"cannot {name} ({reason[0].lower()}{reason[1:]})", remedy)


def _beyond_memory(error: BaseException) -> FlatvqError | None:
    text = str(error)
    found = _ALLOCATION.search(text)
    kinds = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not (kinds or (isinstance(error, RuntimeError) and (found or _BEYOND_ADDRESSES in text))):
        return None
    size = found[1] if found else ""
    if size.endswith(" bytes"):
        size = in_bytes(int(size.removesuffix(" bytes")))
    return FlatvqError(f"not enough memory{f' for {size} more' if size else ''}", _LESS_MEMORY)
