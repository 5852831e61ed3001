"""Waiting for the jobs of `encode` and `tune`, with a cluster that does not always answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flatvq.engines import waiting
from flatvq.engines.attempts import _append
from flatvq.engines.engine import ENGINES, NoAnswerError, State, Unit
from flatvq.engines.jobs import jobs_of
from flatvq.engines.silence import SilenceWatch, silence_of
from flatvq.engines.waiting import run_units
from flatvq.recipe import ClusterRecipe

COMMANDS = {Path("a"): ("timeit",), Path("b"): ("timeit",)}


class Cluster:
    """Does not answer some queries, after which all units are done."""

    largest = 10

    def __init__(self, silent: int) -> None:
        self.silent = silent
        self.units: list[Unit] = []

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        self.units += units

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        self.silent -= 1
        if self.silent >= 0:
            raise NoAnswerError("squeue failed: no route to host", "try again later")
        for unit in self.units:
            _append(unit.folder, event="start", host="a", job="1_0", step=0)
            _append(unit.folder, event="end", job="1_0", step=0, code=0, error=None)
        return {name: dict.fromkeys(range(len(self.units)), "ended") for name in names}

    def limit(self, name: str, running: int) -> None: ...

    def cancel(self, names: Sequence[str]) -> None: ...


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    cluster = Cluster(silent=3)
    monkeypatch.setitem(ENGINES._entries, "fake", lambda recipe: cluster)
    monkeypatch.setattr(waiting, "_WATCH_SECONDS", 0.0)
    return cluster


def _run(
    folder: Path, notice: Callable[[str], None], watch: Callable[[Counter[str]], None], **settings: float
) -> dict[Path, str]:
    recipe = ClusterRecipe(poll_seconds=1e-6, **settings)
    with jobs_of("fake", folder, recipe) as jobs:
        return run_units(jobs, "name", COMMANDS, watch, notice)


def test_units_of_a_cluster_without_an_answer_are_unknown(cluster: Cluster, tmp_path: Path) -> None:
    notices: list[str] = []
    counts: list[Counter[str]] = []
    assert _run(tmp_path, notices.append, counts.append) == {}
    assert counts[:3] == [Counter(unknown=2)] * 3
    assert counts[-1] == Counter(done=2)
    assert [notice.split(" (")[0].split(" since")[0].split(" after")[0] for notice in notices] == [
        "No answer from the cluster",
        "The cluster answers again",
    ]


def test_the_same_command_finds_the_jobs_after_no_answer(cluster: Cluster, tmp_path: Path) -> None:
    cluster.silent = 10_000
    with pytest.raises(NoAnswerError, match="the cluster has not answered since"):
        _run(tmp_path, lambda text: None, lambda counts: None, answer_seconds=1e-3)
    assert silence_of(tmp_path) is not None
    cluster.silent = 0
    assert _run(tmp_path, lambda text: None, lambda counts: None) == {}
    assert [unit.folder.name for unit in cluster.units] == ["a", "b"], "submitted once"
    assert silence_of(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"since": 1, "until": "2", "error": "x"}'])
def test_a_damaged_record_counts_as_missing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "no-answer").write_bytes(content)
    assert silence_of(tmp_path) is None


def test_a_record_that_cannot_be_written_ends_no_command(tmp_path: Path) -> None:
    notices: list[str] = []
    watch = SilenceWatch(tmp_path / "missing", 60, 1, notices.append)
    for _ in range(2):
        watch.note(NoAnswerError("squeue failed", "try again later"))
    watch.end()
    assert len(notices) == 2
