"""Describe exceptions and names in one printable line."""

from __future__ import annotations

import os

from flatvq.credentials import without_credentials

__all__ = ["printable", "reason_of"]

_MAX_LENGTH = 200


def printable(name: str) -> str:
    r"""Escape characters of a name that are not safe to print or to write as JSON.

    Args:
        name: any text, such as a path.

    Example:
        >>> printable("two\nlines 🙂")
        'two\\nlines 🙂'
    """
    if name.isprintable() and "\\" not in name:  # the usual case, which a million files should not wait for
        return name
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in name
    )


def reason_of(error: BaseException, about: str = "") -> str:
    r"""Return the root cause of an exception in one line.

    For an error of the operating system, this is its text and the path. For others, it is the class and the
    first line of the text. Credentials in URLs are hidden.

    Args:
        error: the exception.
        about: a path that the reader knows already, and that is not repeated.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.png"))
        "no such file or directory: 'a.png'"
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "pictures/a.png"), about="a.png")
        'no such file or directory'
        >>> reason_of(ValueError("first line\nsecond line"))
        'ValueError: first line'
        >>> reason_of(EOFError())
        'EOFError'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[:1].lower() + error.strerror[1:]
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if path and not (about and path.endswith(about)):
            reason += f": '{path}'"
    else:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return printable(without_credentials(reason)[:_MAX_LENGTH])
