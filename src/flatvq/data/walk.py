"""All files under a folder, in a fixed order, whatever else lies there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from flatvq.data.entries import Item
from flatvq.data.sets import Fate
from flatvq.errors import FlatvqError

__all__ = ["Listing", "existing_folder", "list_files", "printable"]

# Suffixes that promise an image. Content decides what is one; these only, whether a failure is worth a line.
_CLAIMS = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "avif", "gif", "tif", "tiff", "bmp", "dib"),
        *("jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm", "ico", "qoi", "heic", "heif", "jxl"),
    )
)

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Listing:
    """What lies under a folder."""

    items: tuple[Item, ...]
    """Regular files, ordered by path."""
    fates: tuple[Fate, ...]
    """What is not a regular file, and hidden files by number."""


def existing_folder(path: str | Path, key: str) -> Path:
    """Check a folder that the user named.

    Args:
        path: what was given; `~` is the home folder.
        key: what to call it in an error, such as `data.path`.

    Raises:
        FlatvqError: if nothing was given, there is nothing there, or a file is there.

    Example:
        >>> existing_folder("nowhere", "data.path")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check data.path
    """
    if not str(path):
        raise FlatvqError(f"{key} is empty", f"set {key} to a folder of images")
    folder = Path(path).expanduser()
    shown = printable(str(path))
    try:
        if folder.is_dir():
            return folder
        exists = folder.exists()
    except (OSError, ValueError):
        exists = False
    if exists:
        raise FlatvqError(
            f"'{shown}' is a file, not a folder", f"set {key} to the folder that holds the images"
        )
    raise FlatvqError(f"no folder at '{shown}'", f"check {key}")


def printable(name: str) -> str:
    r"""Return a name with everything that a terminal or JSON could stumble over escaped.

    Example:
        >>> printable("two\nlines 🙂")
        'two\\nlines 🙂'
    """
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in name
    )


def list_files(folder: Path, split: str) -> Listing:
    """List all regular files under a folder; nothing but folders is opened.

    Links are followed, but no folder is entered twice, nor one that holds the folder itself.

    Args:
        folder: an existing folder.
        split: what to call the set in fates.

    Returns:
        The files in the order of their paths, and the fates of everything else.
    """
    items: dict[str, Item] = {}
    fates: dict[str, Fate] = {}
    hidden = 0
    entered = {_identity(above.stat()) for above in (folder, *folder.resolve().parents)}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as scan:
                children = sorted(scan, key=lambda child: child.name)
        except OSError as error:
            fates[below] = _fate(f"{below}/", split, f"folder cannot be listed ({_reason(error)})")
            continue
        for child in children:
            path = f"{below}/{child.name}" if below else child.name
            if child.name.startswith(".") or child.name == "__MACOSX":
                hidden += 1
                continue
            found = _classify(child, path, split, entered)
            if isinstance(found, Item):
                items[path] = found
            elif isinstance(found, Fate):
                fates[path] = found
            else:
                waiting.append(path)
    told = [fates[path] for path in sorted(fates)]
    if hidden:
        told.append(
            Fate(f"hidden ({hidden} entries)", split, "skipped", "named with a dot in front, or __MACOSX")
        )
    return Listing(tuple(items[path] for path in sorted(items)), tuple(told))


def _classify(
    child: os.DirEntry[str], path: str, split: str, entered: set[tuple[int, int]]
) -> Item | Fate | None:
    """Turn an entry of a folder into a file or a fate; None is a folder to enter."""
    try:
        status = child.stat()
    except OSError as error:
        what = "broken link" if child.is_symlink() else "cannot be looked at"
        return _fate(path, split, f"{what} ({_reason(error)})")
    if stat.S_ISDIR(status.st_mode):
        if _identity(status) in entered:
            return Fate(printable(path) + "/", split, "skipped", "a link to a folder that is read already")
        entered.add(_identity(status))
        return None
    if stat.S_ISREG(status.st_mode):
        file = Path(child.path)
        return Item(printable(path), lambda: file.open("rb"), file.suffix.lower() in _CLAIMS)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
    return Fate(printable(path), split, "skipped", kind)


def _fate(path: str, split: str, reason: str) -> Fate:
    """Tell of something that may have been an image: nobody can know."""
    return Fate(printable(path), split, "unreadable", reason)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
