"""What Ctrl-C does before and beside a training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["STOPPED", "end_at_once", "interrupts", "raise_interrupt"]

STOPPED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as of a program that the signal ended."""


@contextmanager
def interrupts(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have a function called on Ctrl-C while the context lasts.

    Args:
        handler: such as `end_at_once` or `raise_interrupt`.
    """
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End this process: an exception would abort imports of compiled modules with a traceback."""
    os._exit(STOPPED)


raise_interrupt = signal.default_int_handler
"""Raise KeyboardInterrupt, for contexts that have something to put in order, such as a terminal's cursor."""
