"""The jobs of a folder: which submission of a unit counts, and what a late process leaves of its own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flatvq.engines.engine import ENGINES, State, Unit
from flatvq.engines.jobs import jobs_of
from flatvq.recipe import ClusterRecipe
from flatvq.train.lease import LeaseLostError

A, B = Path("a"), Path("b")
BOTH = {A: ("timeit",), B: ("timeit",)}


class Cluster:
    """Knows the states that a test sets, by submission."""

    largest = 10

    def __init__(self) -> None:
        self.jobs: dict[str, dict[int, State]] = {}
        self.cancelled: list[str] = []
        self.when_submitted: Callable[[], None] = lambda: None

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        self.when_submitted()
        self.jobs[name] = dict.fromkeys(range(len(units)), "running")

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        return {name: self.jobs.get(name, {}) for name in names}

    def limit(self, name: str, running: int) -> None: ...

    def cancel(self, names: Sequence[str]) -> None:
        self.cancelled += names


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setitem(ENGINES._entries, "fake", lambda recipe: cluster)
    return cluster


def _take_over(folder: Path) -> None:
    """Do what another process does when the owner of the jobs has not responded for a minute."""
    root = folder / "jobs" / ".lease"
    shutil.rmtree(root)
    (root / "00000002").mkdir(parents=True)


def _records(folder: Path) -> list[Path]:
    return list((folder / "jobs").glob("*.json"))


@pytest.mark.parametrize("newer_first", [False, True])
def test_the_latest_submission_of_a_unit_counts_whatever_the_clock_says(
    newer_first: bool, cluster: Cluster, tmp_path: Path
) -> None:
    """The clock of a host may jump, and some disks count in seconds."""
    with jobs_of("fake", tmp_path, ClusterRecipe()) as jobs:
        jobs.submit(BOTH, "z")
        (first,) = cluster.jobs
        cluster.jobs[first][0] = "ended"
        jobs.settle(A)
        jobs.submit({A: BOTH[A]}, "a", again=True)
    os.utime(tmp_path / "jobs" / f"{first}.json", (9, 9))
    for path in _records(tmp_path):
        if path.stem != first:
            os.utime(path, (3, 3) if newer_first else (9, 9))
    with jobs_of("fake", tmp_path, ClusterRecipe()) as jobs:
        assert jobs.states() == {"a": "running", "b": "running"}
        jobs.settle(A)
        jobs.settle(B)
    assert _records(tmp_path) == []
    assert sorted(cluster.cancelled) == sorted(cluster.jobs)


@pytest.mark.parametrize("state", ["ended", "cancelled", "lost", None])
def test_a_job_that_has_ended_is_forgotten(state: State | None, cluster: Cluster, tmp_path: Path) -> None:
    with jobs_of("fake", tmp_path, ClusterRecipe()) as jobs:
        jobs.submit(BOTH, "name")
        (states,) = cluster.jobs.values()
        if state is None:
            del states[0]
        else:
            states[0] = state
        jobs.settle_ended()
        assert list(jobs) == [B]


def test_a_late_process_learns_nothing_from_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Otherwise it reports jobs as failed that its successor has submitted again."""
    with jobs_of("fake", tmp_path, ClusterRecipe()) as jobs:
        jobs.submit(BOTH, "name")
        _take_over(tmp_path)
        with pytest.raises(LeaseLostError):
            jobs.states()


@pytest.mark.parametrize("settled", [False, True])
def test_a_process_that_was_paused_before_its_jobs_existed_leaves_none_that_nobody_knows(
    settled: bool, cluster: Cluster, tmp_path: Path
) -> None:
    """Its successor finds the record: it waits for the jobs, or has removed it and submitted others."""

    def pause() -> None:
        _take_over(tmp_path)
        for path in _records(tmp_path) if settled else ():
            path.unlink()

    cluster.when_submitted = pause
    with pytest.raises(LeaseLostError), jobs_of("fake", tmp_path, ClusterRecipe()) as jobs:
        jobs.submit(BOTH, "name")
    (name,) = cluster.jobs
    assert cluster.cancelled == [name] * settled
    assert [path.stem for path in _records(tmp_path)] == [name] * (not settled)


def test_a_full_disk_leaves_no_record_of_jobs_that_do_not_exist(cluster: Cluster, tmp_path: Path) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "name.sh")

    cluster.when_submitted = fill
    with (
        pytest.raises(OSError, match="No space left on device"),
        jobs_of("fake", tmp_path, ClusterRecipe()) as jobs,
    ):
        jobs.submit(BOTH, "name")
    assert _records(tmp_path) == []
    assert len(cluster.cancelled) == 1
