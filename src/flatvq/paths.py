"""Paths that users write, and names that flatvq uses as folder names."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from flatvq.errors import FlatvqError

__all__ = ["expanded", "name_fault", "same_name"]

_LONGEST, _LONGEST_BYTES = 64, 255
# Names that Windows reserves, with any suffix, and characters that it forbids.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_FORBIDDEN = '<>:"/\\|?*'


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


def name_fault(name: str) -> str | None:
    """Say why a name is not a valid folder name on every system.

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
    if invalid := next((char for char in name if char in _FORBIDDEN or not char.isprintable()), None):
        return f"contains {invalid!r}"
    if _DEVICES.fullmatch(name):
        return "is the name of a device on Windows"
    if len(name) > _LONGEST or len(name.encode()) > _LONGEST_BYTES:
        return f"is longer than {_LONGEST} characters"
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
