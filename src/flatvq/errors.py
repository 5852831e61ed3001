"""Errors for users: what is wrong, which value, and what to do.

The command line prints such an error as one line and exits with its code. `flatvq.translation` converts
errors of the operating system and of torch into these.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

from flatvq.credentials import without_credentials

__all__ = [
    "FlatvqError",
    "MissingExtraError",
    "NonFiniteError",
    "StorageError",
    "UnknownNameError",
    "suggestion",
]

# Maximum length of `what` and of `remedy`: a damaged file may contain keys and values of any length.
_MAX_LENGTH = 4000


class FlatvqError(Exception):
    r"""Invalid input, described in one line. Control characters are escaped, and credentials in URLs hidden.

    Args:
        what: what is wrong, including the invalid value, as a clause without a full stop.
        remedy: what the user should do, as an imperative clause without a full stop.

    Example:
        >>> print(FlatvqError("no folder at 'my\nphotos'", "check data.path"))
        no folder at 'my\nphotos': check data.path
    """

    exit_code: ClassVar[int] = 2
    """The exit code of the command line."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = (_one_line(without_credentials(text)) for text in (what, remedy))
        super().__init__(f"{self.what}: {self.remedy}")

    def __reduce__(self) -> tuple[type[FlatvqError], tuple[str, str]]:
        """Pickle the two parts, so that the error can be sent to another process."""
        return type(self), (self.what, self.remedy)


class MissingExtraError(FlatvqError):
    """A feature needs an optional package that is not installed.

    Args:
        feature: the feature, as a plural noun.
        package: the package that is missing.
        extra: the extra of flatvq that installs it.

    Example:
        >>> print(MissingExtraError("Hugging Face datasets", "datasets", extra="data"))
        Hugging Face datasets need datasets: pip install 'flatvq[data]'
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} need {package}", f"pip install 'flatvq[{extra}]'")

    def __reduce__(self) -> tuple[type[FlatvqError], tuple[str, str]]:
        """Pickle as a plain `FlatvqError` with the same text."""
        return FlatvqError, (self.what, self.remedy)


class StorageError(FlatvqError):
    """The disk is full, over its quota or broken. Files that were written before are complete."""

    exit_code = 74  # EX_IOERR of sysexits.h


class NonFiniteError(FlatvqError):
    """NaN or infinity where a finite number is required, usually because the training diverged."""


class UnknownNameError(ValueError):
    """A value of a recipe names something that does not exist.

    A validator raises it. `flatvq.recipe.parse` adds the key and the file, and raises a `FlatvqError`.

    Args:
        what: what does not exist, as a clause.
        remedy: what to write instead, as a clause.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what, self.remedy = what, remedy


def suggestion(word: str, known: Iterable[str]) -> str:
    """Suggest the valid word nearest to an unknown one, or list all valid words.

    Args:
        word: the unknown word.
        known: the valid words.

    Returns:
        A clause for the end of an error message.

    Example:
        >>> suggestion("codebok_size", ["codebook_size", "code_dim"])
        "did you mean 'codebook_size'?"
        >>> suggestion("xyz", ["b", "a"])
        'known are a, b'
    """
    names = sorted(known)
    match = get_close_matches(word, names, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known are {', '.join(names)}"


def _one_line(text: str) -> str:
    """Escape unprintable characters, such as line breaks, and omit the middle of a long text."""
    if len(text) > _MAX_LENGTH:
        text = f"{text[: _MAX_LENGTH // 2]}...{text[-_MAX_LENGTH // 2 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
