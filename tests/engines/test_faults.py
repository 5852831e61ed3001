"""Faults during a study on this machine, what is checked after them, and the record of many.

`python -m benchmarks.faults` writes results/faults.json.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from benchmarks.faults import local
from benchmarks.faults.checks import attempts_of_done, differences, repeated, steps_lost
from benchmarks.faults.disk import Disk
from benchmarks.faults.record import FaultRecord, nth_fault
from benchmarks.faults.study import Disturbance, Fault, MissedError, SmallStudy
from benchmarks.faults.table import FAULTS
from docsite.faults import faults

RECORD = Path(__file__).parents[2] / "results" / "faults.json"
NAMES = {site: set(faults) for site, faults in FAULTS.items()}
for with_disk in ("local", "slurm"):
    NAMES[with_disk] |= {"full disk", "read-only mount"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", mebibytes=16)
    try:
        yield disk
    finally:
        disk.unmount()


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(local.missing() is not None, reason=f"needs {local.missing()}")
def test_each_fault_of_this_machine_ends_like_an_undisturbed_study(tmp_path: Path) -> None:
    # In a process of its own, because its forkserver loads the library that counts writes.
    record, root = tmp_path / "faults.json", RECORD.parents[1]
    words = ["--on", "local", "--count", str(len(NAMES["local"])), "--steps", "60", "--out", str(record)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *words], cwd=root, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    tried = json.loads(record.read_text(encoding="utf-8"))["disturbances"]
    assert {each["fault"] for each in tried} == NAMES["local"]
    assert all(each["commands"] <= 3 for each in tried)


def test_faults_need_a_process_without_a_forkserver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver._forkserver, "_forkserver_pid", 1)
    with pytest.raises(RuntimeError, match="has a forkserver"):
        local.Local(tmp_path)


def test_a_fault_that_always_comes_too_late_is_an_error(tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, Mock(engine="local"))
    study.site.start.return_value.poll.return_value = 0

    def miss(study: SmallStudy[Mock], randomness: random.Random) -> None:
        study.start()
        raise MissedError

    with pytest.raises(RuntimeError, match="late: the study ended before the fault, 30 times"):
        study.disturb("late", Fault(miss, "start"), {}, random.Random(0))


@pytest.mark.skipif(local.missing() is not None, reason=f"needs {local.missing()}")
def test_a_disk_is_full_or_read_only_for_a_while(disk: Disk) -> None:
    path = disk.folder / "file"
    for begin, undo, message in (
        (disk.fill, disk.free, "No space"),
        (disk.protect, disk.release, "Read-only"),
    ):
        path.write_bytes(b"before")
        begin()
        with pytest.raises(OSError, match=message):
            (disk.folder / "new").write_bytes(bytes(8192))
        assert path.read_bytes() == b"before"
        undo()
        (disk.folder / "new").write_bytes(bytes(8192))


def _run(folder: Path, *rows: tuple[str, int], status: str = "done", attempt: int = 2) -> Path:
    run = folder / "runs" / "plain" / "seed-0"
    (run / ".lease" / f"{attempt:08}").mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"status": status}))
    lines = [json.dumps({"kind": kind, "step": step}) for kind, step in rows]
    (run / "records.jsonl").write_text("\n".join(lines) + "\n")
    return run


def test_steps_are_lost_if_a_trial_resumes_before_its_newest_checkpoint(tmp_path: Path) -> None:
    # The checkpoint of step 20 was not written yet.
    rows = [("start", 0), ("train", 5), ("train", 20), ("start", 15), ("train", 25)]
    assert steps_lost(_run(tmp_path / "kept", *rows), 5) == []
    lost = _run(tmp_path / "lost", *rows, ("start", 15))
    assert steps_lost(lost, 5) == ["seed-0 resumed at step 15 after step 25"]


def test_a_trial_that_starts_again_after_it_was_done_is_named(tmp_path: Path) -> None:
    run = _run(tmp_path, ("start", 0))
    done = attempts_of_done([run, _run(tmp_path / "other", ("start", 0), status="running")])
    assert done == {run: 2}
    assert repeated(done) == []
    (run / ".lease" / "00000003").mkdir()
    assert repeated(done) == ["seed-0 was started again after it was done"]


def test_a_file_that_differs_is_missing_or_left_over_is_named(tmp_path: Path) -> None:
    (tmp_path / "same.json").write_text("{}")
    (tmp_path / "left.txt").write_text("")
    (tmp_path / "other.json").write_text("[1]")
    expected: dict[str, Any] = {"same.json": {}, "other.json": [2], "gone.json": {}}
    assert differences(expected, tmp_path) == ["gone.json differs", "left.txt differs", "other.json differs"]
    (tmp_path / "same.json").write_text("{")
    assert differences(expected, tmp_path)[0].startswith("same.json is damaged: ")


def test_a_record_grows_and_knows_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    one = Disturbance("full disk", step=5, attempts=3, commands=2, seconds=1.0, faults=())
    record, other = FaultRecord(path), FaultRecord(path)
    record.add("local", "local", 7, 1, one)
    other.add("local", "local", 7, 0, one)
    assert [record.has("local", 7, number) for number in (0, 1, 2)] == [True, True, False]
    assert not record.has("ray", 7, 0)
    assert not record.has("local", 8, 0)
    entries = json.loads(path.read_text())["disturbances"]
    assert [entry["number"] for entry in entries] == [0, 1]
    assert entries[0]["fault"] == "full disk"


def test_each_fault_comes_once_before_one_comes_again() -> None:
    names = sorted(NAMES["local"])
    order = [nth_fault(names, 3, number)[0] for number in range(3 * len(names))]
    assert [nth_fault(names[::-1], 3, number)[0] for number in range(len(order))] == order
    for start in range(0, len(order), len(names)):
        assert sorted(order[start : start + len(names)]) == names
    assert order[: len(names)] != order[len(names) : 2 * len(names)]


@pytest.fixture(scope="module")
def tried() -> list[dict[str, Any]]:
    """The studies of the record."""
    return list(json.loads(RECORD.read_text(encoding="utf-8"))["disturbances"])


def test_the_record_has_every_fault_of_this_machine_and_nothing_was_wrong(
    tried: list[dict[str, Any]],
) -> None:
    had = {site: {each["fault"] for each in tried if each["site"] == site} for site in NAMES}
    assert had["local"] == NAMES["local"]
    # Those of clusters take minutes each, and the record grows.
    assert all(had[site] and had[site] <= names for site, names in NAMES.items())
    assert [each for each in tried if each["faults"]] == []
    assert all(each["commit"] and "dirty" not in each["commit"] for each in tried)
    assert all(1 <= each["commands"] <= 2 for each in tried)
    keys = [(each["site"], each["seed"], each["number"]) for each in tried]
    assert len(keys) == len(set(keys))


def test_the_documentation_counts_the_faults_of_the_record(tried: list[dict[str, Any]]) -> None:
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in faults().splitlines()]
    assert len(head) == 1 + len(FAULTS)
    counts = {name: [int(cell or 0) for cell in cells] for name, *cells in rows}
    assert sum(counts.pop("all")) == len(tried)
    assert {name: sum(row) for name, row in counts.items()} == Counter(each["fault"] for each in tried)
    columns = [sum(row[column] for row in counts.values()) for column in range(len(FAULTS))]
    assert columns == [sum(each["site"] == site for each in tried) for site in FAULTS]
