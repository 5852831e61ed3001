"""One of several workers of a search, on any hosts that share its storage and its folder.

    OUT/workers/0003/         the lease of worker 3, its `progress`, and the runs of its trials

A worker that was stopped or killed resumes its unfinished trial when it starts again, on any host.
"""

from __future__ import annotations

import time
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.files import write_text
from flatvq.study.outcome import Outcome
from flatvq.train.lease import leased
from flatvq.tune.search import Search
from flatvq.tune.settings import SearchSettings
from flatvq.tune.storage import open_storage, storage_errors

__all__ = ["MOST_WORKERS", "run_worker", "worker_folder"]

MOST_WORKERS = 10_000
"""The largest number of workers."""

_LEASE_SECONDS = 30.0
_EVERY_SECONDS = 5.0


def worker_folder(number: int) -> Path:
    """Return the folder of a worker, relative to the folder of the search.

    Args:
        number: the number of the worker, from 0.

    Raises:
        FlatvqError: if there cannot be such a worker.

    Example:
        >>> worker_folder(3).as_posix()
        'workers/0003'
    """
    if not 0 <= number < MOST_WORKERS:
        raise FlatvqError(f"there is no worker {number}", f"number them from 0 to {MOST_WORKERS - 1:,}")
    return Path("workers") / f"{number:04d}"


def run_worker(
    settings: SearchSettings, folder: Path, storage: str | None, number: int, threads: int | None = None
) -> int:
    """Run trials one after another until the search has, or workers are running, as many as the recipe sets.

    Args:
        settings: the settings of the search.
        folder: the folder of the search.
        storage: the URL of a database; None for the journal in the folder.
        number: the number of the worker, from 0. One process at a time has it.
        threads: the number of threads of a trial; None for the cores of this process.

    Returns:
        The number of trials that this worker has ended so far.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM, after its trial has written a checkpoint.
        BusyError: if another process is this worker.
        FlatvqError: see `Search`.
    """
    worker = worker_folder(number)
    path = folder / worker
    path.mkdir(parents=True, exist_ok=True)
    with leased(path, _LEASE_SECONDS, "searching") as lease, storage_errors(storage):
        search = Search(settings, folder, open_storage(folder, storage), worker=worker, confirm=lease.confirm)
        search.run(1, _Progress(path).record, threads)
        return search.own_ended


class _Progress:
    """Writes a number that grows as the worker makes progress, for `flatvq.engines.attempts`."""

    def __init__(self, path: Path) -> None:
        self.path = path / "progress"
        self.written = time.monotonic() - _EVERY_SECONDS

    def record(self, search: Search, running: list[Outcome]) -> None:
        if time.monotonic() - self.written < _EVERY_SECONDS:
            return
        self.written = time.monotonic()
        steps = search.own_ended * search.settings.base.train.steps
        write_text(self.path, str(steps + sum(outcome.step for outcome in running)))
