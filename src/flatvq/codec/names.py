"""Names of the images of a collection."""

from __future__ import annotations

from collections.abc import Sequence

from flatvq.errors import FlatvqError
from flatvq.paths import clash, file_fault

__all__ = ["SUFFIX", "fault_of", "require_names"]

SUFFIX = ".png"
"""The suffix that is added to the name of an image when it is decompressed."""


def fault_of(name: str) -> str | None:
    """Explain why a name is not valid for an image of a collection.

    Args:
        name: the name, with `/` between folders.

    Returns:
        A clause for an error message; None if the name is valid.

    Example:
        >>> fault_of("dogs/rex") is None, fault_of(".."), fault_of("dogs/")
        (True, "has the part '..'", "has the part ''")
    """
    last = name.rpartition("/")[2]
    return f"has the part {last!r}" if last in ("", ".", "..") else file_fault(name + SUFFIX)


def require_names(names: Sequence[str]) -> None:
    """Check that a collection can have these names: `NAME.png` can be written for each, on every system.

    Raises:
        FlatvqError: if a name is not valid, or two cannot exist together.

    Example:
        >>> require_names(["dogs/rex", "Dogs/Rex"])
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: the names 'dogs/rex' and 'Dogs/Rex' cannot exist together on every \
system: rename one of the images, or store no names (--no-names)
    """
    for name in names:
        if fault := fault_of(name):
            what = f"no file can have the name {name!r} on every system (it {fault})"
            raise FlatvqError(what, "rename the image, or store no names (--no-names)")
    if pair := clash(name + SUFFIX for name in names):
        first, second = (path.removesuffix(SUFFIX) for path in pair)
        what = f"the names {first!r} and {second!r} cannot exist together on every system"
        raise FlatvqError(what, "rename one of the images, or store no names (--no-names)")
