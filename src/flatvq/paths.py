"""Paths that users write, names that become folders, and paths that files from elsewhere contain."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from flatvq.credentials import holds_credentials
from flatvq.errors import FlatvqError

__all__ = ["clash", "expanded", "file_fault", "name_fault", "require_no_credentials", "same_name"]

_LONGEST, _LONGEST_BYTES = 64, 255
# Names that Windows reserves, with any suffix, and characters that it forbids.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_FORBIDDEN = '<>:"/\\|?*'
_DEEPEST = 32


def expanded(path: str | Path) -> Path:
    """Replace a leading `~` or `~user` of a path by the home folder.

    Args:
        path: a path as the user wrote it.

    Raises:
        FlatvqError: if there is no such home folder.

    Example:
        >>> expanded("pictures/holidays").as_posix()
        'pictures/holidays'
        >>> expanded("~nobody-here/pictures")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no home folder for '~nobody-here/pictures': write the path without ~
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FlatvqError(f"no home folder for {str(path)!r}", "write the path without ~") from None


def require_no_credentials(url: str) -> None:
    """Refuse a URL with a password, a token or a query, because records of runs hold it.

    Raises:
        FlatvqError: if the URL holds one.

    Example:
        >>> require_no_credentials("https://me:x@host/a")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: 'https://me:***@host/a' holds credentials: set them where fsspec reads them
    """
    if holds_credentials(url):
        raise FlatvqError(f"'{url}' holds credentials", "set them where fsspec reads them")


def name_fault(name: str) -> str | None:
    """Explain why a name is not a valid folder name on every operating system.

    Args:
        name: one part of a path.

    Returns:
        A clause for an error message; None if the name is valid.

    Example:
        >>> name_fault("two-level-healthy") is None
        True
        >>> name_fault("../elsewhere"), name_fault("nul.txt")
        ("starts with '.'", 'is the name of a device on Windows')
    """
    if not name:
        return "is empty"
    if name[0] in ".-":
        return f"starts with {name[0]!r}"
    if name != name.strip() or name.endswith("."):
        return "starts or ends with a space, or ends with a dot"
    if fault := _system_fault(name):
        return fault
    return f"is longer than {_LONGEST} characters" if len(name) > _LONGEST else None


def file_fault(path: str) -> str | None:
    """Explain why a relative path cannot name a file inside a folder on every operating system.

    Args:
        path: the path that a file from elsewhere contains, with `/` between folders.

    Returns:
        A clause for an error message; None if the path is valid.

    Example:
        >>> file_fault("dogs/rex.png") is None
        True
        >>> file_fault("../rex.png"), file_fault("dogs/nul.png")
        ("has the part '..'", 'has the name of a device on Windows')
    """
    parts = path.split("/")
    if len(parts) > _DEEPEST:
        return f"has more than {_DEEPEST} parts"
    for part in parts:
        if part in ("", ".", ".."):
            return f"has the part {part!r}"
        if part[-1] in " .":
            return "has a part that ends with a space or a dot"
        if fault := _system_fault(part):
            return fault.replace("is the name", "has the name").replace("is longer", "has a part longer")
    return None


def clash(paths: Iterable[str], *, fold: bool = True) -> tuple[str, str] | None:
    """Find two files that cannot exist together: equal paths, or one path is a folder of the other.

    Args:
        paths: relative paths, with `/` between folders.
        fold: whether two paths count as equal if some file system treats them as equal (see `same_name`).

    Returns:
        The first such pair; None if there is none.

    Example:
        >>> clash(["dogs/rex.png", "dogs/Rex.png"]), clash(["a.png", "b/a.png"])
        (('dogs/rex.png', 'dogs/Rex.png'), None)
        >>> clash(["a.png", "A.png"], fold=False), clash(["a.png/b.png", "a.png"], fold=False)
        (None, ('a.png', 'a.png/b.png'))
    """
    path_of: dict[str, str] = {}
    for path in paths:
        key = same_name(path) if fold else path
        if key in path_of:
            return path_of[key], path
        path_of[key] = path
    for key, path in path_of.items():
        slash = key.find("/")
        while slash >= 0:
            if key[:slash] in path_of:
                return path_of[key[:slash]], path
            slash = key.find("/", slash + 1)
    return None


def _system_fault(part: str) -> str | None:
    """Explain why a part of a path is not valid on every operating system."""
    if invalid := next((char for char in part if char in _FORBIDDEN or not char.isprintable()), None):
        return f"contains {invalid!r}"
    if _DEVICES.fullmatch(part):
        return "is the name of a device on Windows"
    if len(part.encode()) > _LONGEST_BYTES:
        return f"is longer than {_LONGEST_BYTES} bytes"
    return None


def same_name(name: str) -> str:
    r"""Return a key that is equal for names that some file system treats as equal.

    Such names differ in case, or in how accented letters are encoded (NFC or NFD).

    Args:
        name: one part of a path.

    Example:
        >>> same_name("Naïve") == same_name("nai\u0308ve")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
