"""Standard output that may be full, closed, or a broken pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from flatvq.errors import StorageError

__all__ = ["BrokenOutputError", "standard_output"]


class BrokenOutputError(StorageError):
    """The reader of the output has closed it, as `head` does. No message is printed."""

    exit_code = 128 + 13  # the same as for a program that SIGPIPE terminates


@contextmanager
def standard_output() -> Iterator[None]:
    """Replace `sys.stdout` by a stream whose errors can be distinguished from errors of files.

    Raises:
        StorageError: if the output cannot be written.
        BrokenOutputError: if the output is a broken pipe.
    """
    _open_streams()
    original = sys.stdout
    if original is not None:
        if isinstance(original, TextIOWrapper):
            original.reconfigure(errors="backslashreplace")  # file names may hold undecodable bytes
        sys.stdout = cast(TextIO, _Output(original))
    try:
        yield
    finally:
        output, sys.stdout = sys.stdout, original
        if output is not None:
            output.flush()


class _Output:
    """A wrapper of a stream that translates its errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        # typer writes an empty string to detect the kind of stream, and ignores errors.
        if text == "":
            return 0
        with self._translating_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._translating_errors():
            self._stream.flush()

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The interpreter would try to write the buffered rest at exit and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            kind = BrokenOutputError if isinstance(error, BrokenPipeError) else StorageError
            reason = (error.strerror or type(error).__name__).lower()
            raise kind(f"cannot write to standard output ({reason})", "redirect it elsewhere") from error


def _open_streams() -> None:
    """Open closed standard streams on the null device, so that no other file gets their descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
