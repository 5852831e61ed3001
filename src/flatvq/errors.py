"""What a user sees when something is wrong: what, which value, what to do.

The command line prints such an error as one line and exits with its code. Errors of the operating system and
of torch are translated into it by `flatvq.translation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

__all__ = ["FlatvqError", "MissingExtraError", "NonFiniteError", "StorageError", "nearest"]


# Characters of each half of an error; a file may hold a key or value of any length.
_LONGEST = 4000


class FlatvqError(Exception):
    r"""A mistake in what flatvq was given, in one line: control characters are escaped.

    Args:
        what: what is wrong, with the value that is wrong, as a clause without a full stop.
        remedy: what to do about it, as an imperative clause without a full stop.

    Example:
        >>> print(FlatvqError("no folder at 'my\nphotos'", "check data.path"))
        no folder at 'my\nphotos': check data.path
    """

    exit_code: ClassVar[int] = 2
    """With which the command line ends."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = _one_line(what), _one_line(remedy)
        super().__init__(f"{self.what}: {self.remedy}")

    def __reduce__(self) -> tuple[type[FlatvqError], tuple[str, str]]:
        """Pickle by the two parts, so that the error crosses process borders whole."""
        return type(self), (self.what, self.remedy)


class MissingExtraError(FlatvqError):
    """A feature needs an optional package that is not installed.

    Example:
        >>> print(MissingExtraError("Hugging Face datasets", "datasets", extra="data"))
        Hugging Face datasets need datasets: pip install 'flatvq[data]'
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} need {package}", f"pip install 'flatvq[{extra}]'")

    def __reduce__(self) -> tuple[type[FlatvqError], tuple[str, str]]:
        """Pickle as the plain error it reads as."""
        return FlatvqError, (self.what, self.remedy)


class StorageError(FlatvqError):
    """A disk that is full, over its quota or broken. What was written before is whole."""

    exit_code = 74  # EX_IOERR of sysexits.h


class NonFiniteError(FlatvqError):
    """NaN or infinity where a number was needed: most often a training that diverged."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all.

    Args:
        word: what was given.
        known: the words that would have been understood.

    Returns:
        A clause for the end of an error.

    Example:
        >>> nearest("codebok_size", ["codebook_size", "code_dim"])
        "did you mean 'codebook_size'?"
        >>> nearest("xyz", ["b", "a"])
        'known are a, b'
    """
    words = sorted(known)
    match = get_close_matches(word, words, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known are {', '.join(words)}"


def _one_line(text: str) -> str:
    """Escape what a terminal does not print, such as line breaks, and leave out the middle of a long text."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
