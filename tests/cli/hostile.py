"""Runs a command on a hostile input: it must end with one line, and change nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

LIMIT = 300
"""Seconds after which a command hangs, on a machine that is busy otherwise."""


@dataclass(frozen=True)
class Case:
    """A hostile input."""

    prepare: Callable[[Path], object]
    """Writes it into a folder."""
    words: tuple[str, ...]
    """The command that reads it."""
    message: str
    """A part of the line that is expected."""


@contextmanager
def alarm() -> Iterator[None]:
    """Raise an error where a command waits forever."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the command hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(run_flatvq: Any, case: Case, folder: Path) -> str:
    """Run the command of a case in a folder; return the line that it prints.

    Args:
        run_flatvq: the fixture.
        case: the case. Its input is written first.
        folder: the working folder.
    """
    case.prepare(folder)
    before = content(folder)
    with alarm():
        code, out, err = run_flatvq(*case.words)
    assert code in (2, 74), (code, out, err)
    assert err.startswith("flatvq: ")
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert len(err) < 5000
    assert case.message in err
    assert content(folder) == before
    return str(err)


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file below a folder; links are not followed."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return {str(file): (file.lstat().st_size, file.lstat().st_mtime_ns) for file in files}
