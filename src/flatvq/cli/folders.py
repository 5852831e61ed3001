"""Folders of results: those that a user gives, and the defaults."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.paths import expanded, name_fault

__all__ = ["default_folder", "images_with_home", "with_home", "with_tokenizer", "writable", "writable_file"]


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
    """Check that files can be written into a folder, and return it.

    It is not created, so that a command that fails later leaves no empty folder.

    Raises:
        FlatvqError: if the folder cannot be created or written to.
    """
    for existing in (folder, *folder.absolute().parents):
        try:
            is_folder = stat.S_ISDIR(existing.stat().st_mode)
        except FileNotFoundError:
            if existing.is_symlink():
                raise FlatvqError(f"'{existing}' is a broken link", "choose another folder") from None
            continue
        except OSError as error:
            raise _not_created(folder, error.strerror or type(error).__name__) from None
        if not is_folder and existing == folder:
            raise FlatvqError(f"'{folder}' is a file", "choose another folder")
        if not is_folder:
            raise _not_created(folder, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            if existing == folder:
                raise FlatvqError(f"the folder '{folder}' is not writable", "choose another folder")
            raise _not_created(folder, os.strerror(errno.EACCES))
        break
    return folder


def writable_file(file: Path, example: str) -> Path:
    """Check that a file can be written, and return it. Neither the file nor its folder is created.

    Args:
        file: the file. It may exist, and its folder need not.
        example: a name for the file, for the message if it is a folder.

    Raises:
        FlatvqError: if it is a folder, or its folder cannot be created or written to.
    """
    if file.is_dir():
        raise FlatvqError(f"'{file}' is a folder", f"give a file, such as '{file / example}'")
    writable(file.parent)
    return file


def _not_created(folder: Path, reason: str) -> FlatvqError:
    return FlatvqError(f"cannot create the folder '{folder}' ({reason.lower()})", "choose another folder")
