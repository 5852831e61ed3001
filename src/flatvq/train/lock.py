"""One process at a time in a run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flatvq.errors import FlatvqError

__all__ = ["locked"]

# A study that was killed leaves trials that are writing their last checkpoint: worth a moment's wait.
_PATIENCE_SECONDS = 30.0


@contextmanager
def locked(run: Path, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a run folder while the context lasts; the kernel lets go of it however the process ends.

    Raises:
        FlatvqError: if another process holds it for longer than the patience, in seconds.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows, where two trainings in one folder are the user's to avoid
        yield
        return
    with (run / ".lock").open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    remedy = "wait for it, stop it, or choose another folder"
                    raise FlatvqError(f"another process is training in '{run}'", remedy) from None
                time.sleep(0.2)
        yield
