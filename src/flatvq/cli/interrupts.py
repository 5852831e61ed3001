"""Handling of Ctrl-C outside of training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["STOPPED", "exit_at_once", "interrupts", "raise_interrupt"]

STOPPED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, the same as for a program that SIGINT terminates."""


@contextmanager
def interrupts(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call a function on Ctrl-C while the context is active.

    Args:
        handler: the function, such as `exit_at_once` or `raise_interrupt`.
    """
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Exit the process. An exception during the import of a compiled module would print a traceback."""
    os._exit(STOPPED)


raise_interrupt = signal.default_int_handler
"""Raise KeyboardInterrupt, for contexts that must clean up, such as restore the cursor of a terminal."""
