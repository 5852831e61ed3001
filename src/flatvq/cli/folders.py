"""Folders that a user names, or that are named by a recipe."""

from __future__ import annotations

import os
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.paths import expanded, name_fault

__all__ = ["as_given", "default_folder", "writable"]


def as_given(path: Path | None) -> Path | None:
    """Return the path of an option with its `~` replaced; shells leave that to the program in `--out=~/x`."""
    return path and expanded(path)


def default_folder(place: str, recipe: str, *parts: str) -> Path:
    """Return the folder for what a recipe leaves behind.

    Args:
        place: the folder above it.
        recipe: the recipe's name, or the path of its file.
        parts: what else is in the folder's name.

    Raises:
        FlatvqError: if the file's name cannot be part of a folder's.

    Example:
        >>> default_folder("runs", "recipes/mine.yaml", "naive", "0").as_posix()
        'runs/mine-naive-0'
    """
    name = Path(recipe).stem
    if fault := name_fault(name):
        what = f"a folder cannot be named after recipe {recipe!r}: {name!r} {fault}"
        raise FlatvqError(what, "rename the file, or give --out")
    return Path(place) / "-".join([name, *parts])


def writable(folder: Path) -> Path:
    """Make a folder and return it.

    Raises:
        FlatvqError: if it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FlatvqError(f"'{folder}' is a file", "choose another folder") from None
    except OSError as error:
        what = f"cannot make the folder '{folder}' ({(error.strerror or type(error).__name__).lower()})"
        raise FlatvqError(what, "choose another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FlatvqError(f"the folder '{folder}' cannot be written to", "choose another folder")
    return folder
