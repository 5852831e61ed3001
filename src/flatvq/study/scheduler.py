"""Runs jobs in worker processes, a fixed number at a time. Studies and searches use it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Generic, Protocol, TypeVar

from flatvq.processes import cores
from flatvq.study.devices import gpus_for, least_busy

__all__ = ["Job", "Scheduler", "Slot", "StudyStopped", "signals_raise_stopped"]

_POLL_SECONDS = 0.5


class StudyStopped(Exception):  # noqa: N818 (a request that was followed, not an error)
    """Ctrl-C or SIGTERM stopped the study, and every running trial wrote a checkpoint."""


class Job(Protocol):
    """A job that runs in a process."""

    @property
    def process(self) -> BaseProcess:
        """The process. SIGTERM asks it to write a checkpoint and end."""

    @property
    def gpu(self) -> str | None:
        """The GPU it uses, as CUDA_VISIBLE_DEVICES names it."""

    def finished(self) -> bool:
        """Update the job from its process and records; return True once it has ended."""


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Slot:
    """The share of the machine that a new job may use."""

    threads: int
    """Threads to compute with."""
    gpu: str | None
    """The only GPU it sees, as CUDA_VISIBLE_DEVICES names it; None if it sees all GPUs of this process."""


class Scheduler(Generic[J]):
    """Runs jobs, at most `workers` at a time.

    Args:
        workers: the number of jobs at a time.
        device: `train.device` of their recipes. On GPUs, each job gets the least busy one.
        threads: the number of threads of a job; None for an equal share of the cores.
    """

    def __init__(self, workers: int, device: str, threads: int | None = None) -> None:
        self.running: list[J] = []
        """The jobs that have started and not ended."""
        self._workers = workers
        self._threads = threads or max(1, cores() // workers)
        self._gpus = gpus_for(device)

    def run(self, start_next: Callable[[Slot], J | None], watch: Callable[[], None]) -> None:
        """Start jobs until there are no more, and wait for them.

        On any error, such as a full disk, SIGTERM asks the running jobs to write a checkpoint and end, and
        the error is raised once they have.

        Args:
            start_next: starts the next job; returns None if there is none at the moment. It is called again
                after each poll.
            watch: called about twice a second while jobs run.

        Raises:
            StudyStopped: on Ctrl-C or SIGTERM, after every running job has ended.
        """
        with signals_raise_stopped() as raise_again:
            try:
                while self._fill(start_next):
                    raise_again()
                    wait([job.process.sentinel for job in self.running], _POLL_SECONDS)
                    self.running = [job for job in self.running if not job.finished()]
                    watch()
            except BaseException as error:
                self._stop_running()
                if isinstance(error, KeyboardInterrupt | StudyStopped):
                    raise StudyStopped from None
                raise

    def _fill(self, start_next: Callable[[Slot], J | None]) -> bool:
        """Start jobs while there are free workers; return whether any job runs."""
        while len(self.running) < self._workers:
            job = start_next(Slot(self._threads, least_busy(self._gpus, [job.gpu for job in self.running])))
            if job is None:
                break
            self.running.append(job)
        return bool(self.running)

    def _stop_running(self) -> None:
        # All of them first, so that they write their checkpoints at the same time.
        for job in self.running:
            job.process.terminate()
        for job in self.running:
            job.process.join()


@contextmanager
def signals_raise_stopped() -> Iterator[Callable[[], None]]:
    """Raise StudyStopped in the main thread on SIGTERM or Ctrl-C while the context lasts.

    Yields:
        A function that raises StudyStopped if a signal has arrived. Call it in each iteration of a loop: if
        the signal arrives in a destructor or another callback, Python drops the error there.
    """
    stop_requested = False

    def stop(number: int, frame: object) -> None:
        nonlocal stop_requested
        stop_requested = True
        raise StudyStopped

    def raise_again() -> None:
        if stop_requested:
            raise StudyStopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield raise_again
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
