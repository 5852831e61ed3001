"""List all files under a folder in a fixed order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from flatvq.data.manifest import Item
from flatvq.data.reasons import printable, reason_of
from flatvq.data.survey_cache import FileTimes
from flatvq.data.types import FileStatus
from flatvq.errors import FlatvqError
from flatvq.paths import expanded
from flatvq.regular import kind_of

__all__ = ["Listing", "existing_folder", "list_files"]

# Suffixes that promise an image. The content decides whether a file is one. The suffix only decides whether a
# file that is not one is listed as unreadable.
_IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "avif", "gif", "tif", "tiff", "bmp", "dib"),
        *("jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm", "ico", "qoi", "heic", "heif", "jxl"),
    )
)


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens a file. Unlike a `Path` in a closure, it takes little memory."""

    path: str

    def __call__(self) -> BinaryIO:
        return Path(self.path).open("rb")


@dataclass(frozen=True)
class Listing:
    """The content of a folder and its sub-folders."""

    items: tuple[Item, ...]
    """Regular files, ordered by path."""
    file_statuses: tuple[FileStatus, ...]
    """Everything that is not a regular file, and the number of hidden files."""


def existing_folder(path: str | Path, key: str) -> Path:
    """Return a folder that the user named, after checking that it exists.

    Args:
        path: the path as the user wrote it; `~` is the home folder.
        key: the name of the setting in an error, such as `data.path`.

    Raises:
        FlatvqError: if the path is empty, does not exist, is not a folder, or cannot be reached.

    Example:
        >>> existing_folder("nowhere", "data.path")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check data.path
    """
    if not str(path):
        raise FlatvqError(f"{key} is empty", f"set {key} to a folder of images")
    folder = expanded(path)
    shown = printable(str(path))
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise FlatvqError(f"no folder at '{shown}'", f"check {key}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise FlatvqError(
            f"no folder at '{shown}' ({reason_of(error, str(folder))})", f"check {key}"
        ) from None
    if not stat.S_ISDIR(mode):
        what = f"'{shown}' is a file, not a folder"
        raise FlatvqError(what, f"set {key} to the folder that holds the images")
    return folder


def list_files(folder: Path, split: str) -> Listing:
    """List all regular files under a folder, without opening them.

    Links are followed, but no folder is entered twice, nor a folder that contains the given one.

    Args:
        folder: an existing folder.
        split: the name of the set in file statuses.

    Returns:
        The files in the order of their paths, and the status of everything else.

    Raises:
        FlatvqError: if the folder itself cannot be listed.
    """
    items: dict[str, Item] = {}
    file_statuses: dict[str, FileStatus] = {}
    hidden = 0
    entered = set(_identities(folder))
    pending = [""]  # paths of folders, relative to `folder`
    while pending:
        parent = pending.pop()
        try:
            with os.scandir(folder / parent) as scan:
                children = sorted(scan, key=lambda child: child.name)
        except OSError as error:
            reason = f"cannot be listed ({reason_of(error, parent or str(folder))})"
            if not parent:
                what = f"folder '{printable(str(folder))}' {reason}"
                raise FlatvqError(what, "check the path and its permissions") from None
            file_statuses[parent] = _unreadable(f"{parent}/", split, f"folder {reason}")
            continue
        for child in children:
            path = f"{parent}/{child.name}" if parent else child.name
            if child.name.startswith(".") or child.name == "__MACOSX":
                hidden += 1
                continue
            result = _classify(child, path, split, entered)
            if isinstance(result, Item):
                items[path] = result
            elif isinstance(result, FileStatus):
                file_statuses[path] = result
            else:
                pending.append(path)
    ordered_statuses = [file_statuses[path] for path in sorted(file_statuses)]
    if hidden:
        ordered_statuses.append(
            FileStatus(
                f"hidden ({hidden} entries)", split, "skipped", "named with a dot in front, or __MACOSX"
            )
        )
    return Listing(tuple(items[path] for path in sorted(items)), tuple(ordered_statuses))


def _classify(
    child: os.DirEntry[str], path: str, split: str, entered: set[tuple[int, int]]
) -> Item | FileStatus | None:
    """Return the item or the status of an entry of a folder; None for a folder to enter."""
    try:
        status = child.stat()
    except OSError as error:
        what = "broken link" if child.is_symlink() else "cannot be read"
        return _unreadable(path, split, f"{what} ({reason_of(error, path)})")
    if stat.S_ISDIR(status.st_mode):
        if _identity(status) in entered:
            return FileStatus(
                printable(path) + "/", split, "skipped", "a link to a folder that is read already"
            )
        entered.add(_identity(status))
        return None
    if stat.S_ISREG(status.st_mode):
        claimed = PurePath(child.name).suffix.lower() in _IMAGE_SUFFIXES
        return Item(printable(path), _Opener(child.path), claimed, FileTimes.of(status))
    return FileStatus(printable(path), split, "skipped", kind_of(status.st_mode))


def _unreadable(path: str, split: str, reason: str) -> FileStatus:
    """Return the status of an entry that cannot be read and may be an image."""
    return FileStatus(printable(path), split, "unreadable", reason)


def _identities(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the identity of a folder and of each folder that contains it, if it can be read."""
    for path in (folder, *Path(os.path.realpath(folder)).parents):
        with suppress(OSError):
            yield _identity(path.stat())


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
