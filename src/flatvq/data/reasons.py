"""Why something failed, in one line: the text of errors that others raise."""

from __future__ import annotations

import os

__all__ = ["printable", "reason_of"]

_LONGEST = 200


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


def reason_of(error: BaseException, about: str = "") -> str:
    r"""Return the first cause of an error in one line.

    Of an error of the operating system, this is its text and the path; of others, it is the class and the
    first line of the text.

    Args:
        error: what was raised.
        about: the path that it is said of; it is not repeated.

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
    return printable(reason[:_LONGEST])
