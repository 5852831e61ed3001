"""Folders of results: those that a user gives, and the defaults."""

from __future__ import annotations

import os
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.paths import expanded, name_fault

__all__ = ["default_folder", "images_with_home", "with_home", "with_tokenizer", "writable"]


def with_home(path: Path | None) -> Path | None:
    """Replace a leading `~` in the path of an option; shells do not replace it in `--out=~/x`."""
    return path and expanded(path)


def images_with_home(images: str | None) -> str | None:
    """Replace a leading `~` in the path of images, which may be a URL."""
    return images if images is None or "://" in images else str(expanded(images))


def with_tokenizer(path: Path) -> Path:
    """Return the folder of the tokenizer that an argument names: a path, a pretrained name, or a repository.

    Raises:
        FlatvqError: if there is no such tokenizer.
    """
    from flatvq.tokenizers import local_folder

    return local_folder(path)


def default_folder(parent: str, recipe: str, *parts: str) -> Path:
    """Return the default folder for the results of a recipe.

    Args:
        parent: the parent folder.
        recipe: name of the recipe, or path of its file.
        parts: further parts of the folder name.

    Raises:
        FlatvqError: if the name of the recipe cannot be part of a folder name.

    Example:
        >>> default_folder("runs", "recipes/mine.yaml", "naive", "0").as_posix()
        'runs/mine-naive-0'
    """
    name = Path(recipe).stem
    if fault := name_fault(name):
        what = f"a folder cannot be named after recipe {recipe!r}: {name!r} {fault}"
        raise FlatvqError(what, "rename the file, or give --out")
    return Path(parent) / "-".join([name, *parts])


def writable(folder: Path) -> Path:
    """Create a folder, if it does not exist, and return it.

    Raises:
        FlatvqError: if the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FlatvqError(f"'{folder}' is a file", "choose another folder") from None
    except OSError as error:
        what = f"cannot create the folder '{folder}' ({(error.strerror or type(error).__name__).lower()})"
        raise FlatvqError(what, "choose another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FlatvqError(f"the folder '{folder}' is not writable", "choose another folder")
    return folder
