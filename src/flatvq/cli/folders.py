"""Folders that a user names to be written to."""

from __future__ import annotations

from pathlib import Path

from flatvq.errors import FlatvqError

__all__ = ["writable"]


def writable(folder: Path) -> Path:
    """Make a folder and return it.

    Raises:
        FlatvqError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot write to '{folder}' ({type(error).__name__})"
        raise FlatvqError(what, "choose another folder") from None
    return folder
