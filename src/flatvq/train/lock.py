"""Locks a folder, so that only one process at a time writes into it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flatvq.errors import FlatvqError

__all__ = ["locked"]

# After a study is killed, its trials may still be writing their last checkpoints. Wait for them.
_TIMEOUT_SECONDS = 30.0


@contextmanager
def locked(run: Path, timeout: float = _TIMEOUT_SECONDS, activity: str = "training") -> Iterator[None]:
    """Lock a folder while the context lasts. The kernel releases the lock if the process is killed.

    On Windows the folder is not locked.

    Args:
        run: the folder, such as that of a run.
        timeout: seconds to wait for another process that holds the lock.
        activity: what processes do with the folder, for the error.

    Raises:
        FlatvqError: if another process still holds the lock after the timeout.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    with (run / ".lock").open("w") as file:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    remedy = "wait for it, stop it, or choose another folder"
                    raise FlatvqError(f"another process is {activity} in '{run}'", remedy) from None
                time.sleep(0.2)
        yield
