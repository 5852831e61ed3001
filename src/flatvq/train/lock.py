"""Locks a folder, so that only one process of this machine at a time writes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["flock_of"]


@contextmanager
def flock_of(run: Path) -> Iterator[Callable[[], bool]]:
    """Open the lock of a folder. The kernel releases it when the context or the process ends.

    Processes of other machines may not see the lock: it depends on the file system. On Windows, and where
    the file system has no locks, there is none.

    Args:
        run: the folder.

    Yields:
        A function that takes the lock if it is free. It returns False if another process holds the lock. On a
        system without locks, it returns True.
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
