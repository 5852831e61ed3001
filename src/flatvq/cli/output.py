"""Standard output that may be full, unread or closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from flatvq.errors import StorageError

__all__ = ["UnreadError", "standard_output"]


class UnreadError(StorageError):
    """Nobody reads the output any more, as after `head`; there is nobody to tell."""

    exit_code = 128 + 13  # as of a program that SIGPIPE ended


@contextmanager
def standard_output() -> Iterator[None]:
    """Print to an output whose errors are told from those of files; what is left is written at the end.

    Raises:
        StorageError: if the output cannot be written.
        UnreadError: if nobody reads it.
    """
    _open_streams()
    before = sys.stdout
    if before is not None:
        if isinstance(before, TextIOWrapper):
            before.reconfigure(errors="backslashreplace")  # a file's name need not be text
        sys.stdout = cast(TextIO, _Output(before))
    try:
        yield
    finally:
        printed, sys.stdout = sys.stdout, before
        if printed is not None:
            printed.flush()


class _Output:
    """A stream that is as another one but for its errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print."""
        # typer writes an empty text to see what kind of stream this is, and passes over errors.
        if text == "":
            return 0
        with self._telling_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Hand what was printed to the system."""
        with self._telling_errors():
            self._stream.flush()

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is left cannot be written either; the interpreter would try to at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            kind = UnreadError if isinstance(error, BrokenPipeError) else StorageError
            reason = (error.strerror or type(error).__name__).lower()
            raise kind(f"cannot write to standard output ({reason})", "redirect it elsewhere") from error


def _open_streams() -> None:
    """Open closed standard streams on the null device: the next file would get their number and output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
