"""Locks a folder, so that only one process of this machine at a time writes into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flatvq.errors import FlatvqError

__all__ = ["flock_of", "locked"]


@contextmanager
def flock_of(run: Path) -> Iterator[Callable[[], bool]]:
    """Open the lock of a folder. The kernel releases it when the context or the process ends.

    Processes of other machines may not see the lock: it depends on the file system. On Windows, and where
    the file system has no locks, there is none.

    Args:
        run: the folder.

    Yields:
        A function that takes the lock if it is free. It returns whether this process has it, or there is
        none.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        yield lambda: True
        return

    with (run / ".lock").open("w") as file:

        def try_lock() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a file system without locks
                return True
            return True

        yield try_lock


@contextmanager
def locked(folder: Path, timeout: float, activity: str) -> Iterator[None]:
    """Lock a folder while the context lasts.

    Args:
        folder: the folder.
        timeout: seconds to wait for another process that holds the lock.
        activity: what processes do with the folder, for the error.

    Raises:
        FlatvqError: if another process still holds the lock after the timeout.
    """
    with flock_of(folder) as try_lock:
        deadline = time.monotonic() + timeout
        while not try_lock():
            if time.monotonic() > deadline:
                remedy = "wait for it, stop it, or choose another folder"
                raise FlatvqError(f"another process is {activity} in '{folder}'", remedy)
            time.sleep(0.2)
        yield
