"""The scheduler: at most so many jobs at a time, and no process left after an error or a signal."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.study.sleeping import sleep_until_stopped

from flatvq.study.scheduler import Scheduler, Slot, StudyStopped

pytestmark = pytest.mark.processes

SPAWN = get_context("spawn")


class SleepingJob:
    """Sleeps in a process, which handles SIGTERM as a trial does: it writes a file and ends."""

    def __init__(self, seconds: float, slot: Slot, checkpoint: Path) -> None:
        self.gpu = slot.gpu
        self.process = SPAWN.Process(target=sleep_until_stopped, args=(seconds, checkpoint))
        self.process.start()

    def finished(self) -> bool:
        return self.process.exitcode is not None


def test_at_most_so_many_jobs_run_at_a_time_and_all_are_run(tmp_path: Path) -> None:
    jobs: list[SleepingJob] = []
    scheduler: Scheduler[SleepingJob] = Scheduler(2, "cpu")

    def start_next(slot: Slot) -> SleepingJob | None:
        assert sum(not job.finished() for job in jobs) < 2
        if len(jobs) == 5:
            return None
        jobs.append(SleepingJob(0.0, slot, tmp_path / str(len(jobs))))
        return jobs[-1]

    scheduler.run(start_next, lambda: None)
    assert [job.process.exitcode for job in jobs] == [0] * 5
    assert scheduler.running == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_destructor_is_not_lost(tmp_path: Path, monkeypatch, number: signal.Signals) -> None:
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: dropped.append(info.exc_type))
    left: list[object] = [SignalledInDestructor(number)]
    scheduler: Scheduler[SleepingJob] = Scheduler(1, "cpu")
    with pytest.raises(StudyStopped):
        scheduler.run(lambda slot: SleepingJob(20.0, slot, tmp_path / "0"), left.clear)
    assert dropped == [StudyStopped], "Python did not drop the error"
    assert scheduler.running[0].process.exitcode is not None


class SignalledInDestructor:
    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)


def test_without_jobs_nothing_is_watched() -> None:
    scheduler: Scheduler[SleepingJob] = Scheduler(2, "cpu")
    scheduler.run(lambda slot: None, lambda: pytest.fail("there is nothing to watch"))


@pytest.mark.parametrize("accident", [signal.SIGTERM, signal.SIGINT, OSError(28, "No space left on device")])
def test_every_job_writes_a_checkpoint_when_the_scheduler_stops(
    tmp_path: Path, accident: signal.Signals | OSError
) -> None:
    jobs: list[SleepingJob] = []
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def start_next(slot: Slot) -> SleepingJob | None:
        jobs.append(SleepingJob(600.0, slot, tmp_path / str(len(jobs))))
        return jobs[-1]

    def watch() -> None:
        if len(list(tmp_path.iterdir())) < 2:
            return
        if isinstance(accident, OSError):
            raise accident
        os.kill(os.getpid(), accident)

    scheduler: Scheduler[SleepingJob] = Scheduler(2, "cpu")
    with pytest.raises(OSError if isinstance(accident, OSError) else StudyStopped):
        scheduler.run(start_next, watch)
    assert sorted(path.name for path in tmp_path.glob("*.saved")) == ["0.saved", "1.saved"]
    assert [job.process.exitcode for job in jobs] == [3, 3]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
