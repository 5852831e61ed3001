"""Turns SIGTERM and Ctrl-C into a request to stop, which the training loop checks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "stop_requests"]


class StopRequest:
    """A request to stop the training. It is true once a signal has arrived."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal, or SIGTERM for a request without one; None if none came."""

    def __bool__(self) -> bool:
        """Return whether a signal has arrived."""
        return self.signal is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a request while the context lasts.

    A second SIGINT raises KeyboardInterrupt.
    """
    request = StopRequest()
    # Only the main thread can set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def record(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, record) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
