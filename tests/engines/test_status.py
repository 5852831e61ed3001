"""`flatvq status`: the state of each trial from its folder alone."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from flatvq.recipe import load_recipe
from flatvq.study import StudyData, plan_study, run_trials
from flatvq.study.scheduler import Scheduler
from flatvq.train.owner import Owner, this_process

ELSEWHERE = Owner("node7", 1, "another machine", "1")


def _trial(
    study: Path, seed: int, status: dict[str, Any] | None, owner: Owner | None, *events: dict[str, Any]
) -> Path:
    run = study / "runs" / "plain" / f"seed-{seed}-00112233"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text(json.dumps({"train": {"batch_size": 8}}))
    if status:
        (run / "status.json").write_text(json.dumps({"steps": 100, "error": None, **status}))
    if owner:
        folder = run / ".lease" / "00000002"
        folder.mkdir(parents=True)
        (folder / "owner.json").write_text(json.dumps(asdict(owner)))
    lines = (json.dumps({"time": 0.0, **event}) for event in events)
    (run / "attempts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return run


def test_each_state_is_read_from_its_folder(tmp_path: Path, run_flatvq) -> None:
    running, submitted = {"status": "running", "step": 0}, {"event": "submitted", "name": "x"}
    start = {"event": "start", "host": "node7", "job": "1_0", "step": 0}
    end = {"event": "end", "job": "1_0", "step": 0, "error": "boom"}
    run = _trial(tmp_path, 0, running, ELSEWHERE, submitted, start)
    rows = [{"kind": "train", "step": 40, "images_per_second": 16.0}, {"kind": "validation", "step": 50}]
    (run / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"kind": "tr')
    silent = _trial(tmp_path, 1, running, ELSEWHERE, submitted, start)
    hour_ago = time.time() - 3600
    os.utime(silent / ".lease" / "00000002" / "owner.json", (hour_ago, hour_ago))
    _trial(tmp_path, 2, None, None, submitted)
    _trial(tmp_path, 3, {"status": "done", "step": 100}, Owner(**{**vars(ELSEWHERE), "held": False}))
    _trial(tmp_path, 4, {**running, "status": "failed", "error": "diverged"}, None)
    _trial(tmp_path, 5, running, Owner(**{**vars(this_process()), "started": "1"}))
    _trial(tmp_path, 6, running, None, submitted, start, {**end, "code": 2})
    _trial(tmp_path, 7, running, None, submitted, start, {**end, "code": 75})
    _trial(tmp_path, 8, None, None, submitted, start, {**end, "code": 2})
    code, output, errors = run_flatvq("status", tmp_path, "--json")
    assert (code, errors) == (0, "")
    trials = json.loads(output)["trials"]
    assert [trial["state"] for trial in trials] == (
        ["running", "silent", "queued", "done", "failed", "killed", "killed", "queued", "failed"]
    )
    first = trials[0]
    assert (first["host"], first["step"], first["seconds_per_step"]) == ("node7", 50, 0.5)
    assert (first["seconds_left"], first["attempts"]) == (25.0, 2)
    assert [trials[4]["error"], trials[6]["error"]] == ["diverged", "boom"]
    _, table, _ = run_flatvq("status", tmp_path)
    assert table.splitlines()[1].split() == [
        "plain",
        "0",
        "running",
        "node7",
        "50/100",
        "0.5",
        "0:00:25",
        "2",
    ]
    assert table.splitlines()[-1].startswith("9 trials: 1 done, 2 failed, 2 killed")


def test_damaged_files_are_read_as_far_as_possible(tmp_path: Path, run_flatvq) -> None:
    run = _trial(tmp_path, 0, {"status": "running", "step": 3}, ELSEWHERE)
    for name in ("status.json", "recipe.json", "records.jsonl", "attempts.jsonl"):
        (run / name).write_bytes(b"[1")
    code, output, _ = run_flatvq("status", tmp_path, "--json")
    assert (code, json.loads(output)["trials"][0]["state"]) == (0, "running")


def test_one_damaged_folder_hides_no_other_trial(tmp_path: Path, run_flatvq) -> None:
    done = {"status": "done", "step": 100}
    _trial(tmp_path, 0, done, None)
    running = {"status": "running", "step": 3}
    for seed, name in ((1, "attempts.jsonl"), (2, "records.jsonl"), (3, "status.json"), (4, "recipe.json")):
        run = _trial(tmp_path, seed, running, None)
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
    (_trial(tmp_path, 5, running, None) / ".lease").touch()
    runs = tmp_path / "runs"
    (runs / "plain" / "seed-6-a-file").touch()
    for other in (".removed/seed-7-a", "plain/.seed-8-a.removed", "plain/9-a", "plain/seed-x"):
        (runs / other).mkdir(parents=True)
    code, output, errors = run_flatvq("status", tmp_path, "--json")
    assert (code, errors) == (0, "")
    trials = json.loads(output)["trials"]
    assert [(trial["seed"], trial["state"]) for trial in trials] == [
        (0, "done"),
        (1, "killed"),
        (2, "killed"),
        (3, "waiting"),
        (4, "killed"),
        (5, "killed"),
    ]


def test_a_folder_without_trials_is_refused(tmp_path: Path, run_flatvq) -> None:
    code, _, errors = run_flatvq("status", tmp_path)
    assert (code, errors.count("\n")) == (2, 1)
    assert "holds no trials" in errors


def test_trials_that_have_not_started_have_a_row(tmp_path: Path, monkeypatch, run_flatvq) -> None:
    plan = plan_study(load_recipe("photographs", ["seeds=[0, 1]", "looks=[1, 2]"]), "photographs")
    shown = []

    def show(scheduler: Scheduler, start_next: object, watch: object) -> None:
        shown.append(json.loads(run_flatvq("status", tmp_path, "--json")[1])["trials"])

    monkeypatch.setattr(Scheduler, "run", show)
    for look in (1, 2):
        run_trials(plan, tmp_path, StudyData(plan), lambda progress: None, look)
    arms = sorted(arm.name for arm in plan.arms)
    for look, rows in enumerate(shown, start=1):
        assert [(row["arm"], row["seed"]) for row in rows] == [(arm, n) for arm in arms for n in range(look)]
        assert {row["state"] for row in rows} == {"waiting"}


@pytest.mark.parametrize("value", [None, "7", -1, 1.5, True, [], {}, 2**70, float("nan")])
def test_damaged_values_count_as_missing(tmp_path: Path, run_flatvq, value: Any) -> None:
    status = {"status": value, "step": value, "steps": value, "error": value}
    owner = Owner(**{**vars(ELSEWHERE), "process": value, "held": value})
    events = [
        {"event": "start", "host": value, "job": value, "step": value},
        {"event": "end", "job": value, "step": value, "code": value, "error": value, "time": value},
    ]
    run = _trial(tmp_path, 0, status, owner, {"event": "submitted", "time": value}, *events)
    (run / "recipe.json").write_text(json.dumps({"train": {"batch_size": value}}))
    rows = [{"kind": "train", "step": 3, "images_per_second": value}, {"step": value}, value]
    (run / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    _trial(tmp_path, 1, {"status": "done", "step": 100}, None)
    code, _, errors = run_flatvq("status", tmp_path)
    assert (code, errors) == (0, "")
    code, output, errors = run_flatvq("status", tmp_path, "--json")
    assert (code, errors) == (0, "")
    damaged, done = json.loads(output)["trials"]
    assert damaged["state"] in ("queued", "waiting")
    assert damaged["host"] is None
    assert damaged["seconds_per_step"] is None
    assert done["state"] == "done"


def test_deeply_nested_json_counts_as_missing(tmp_path: Path, run_flatvq) -> None:
    run = _trial(tmp_path, 0, {"status": "running", "step": 0}, ELSEWHERE)
    (run / "status.json").write_text(100_000 * "[")
    (run / "attempts.jsonl").write_text(100_000 * "[")
    code, output, errors = run_flatvq("status", tmp_path, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output)["trials"][0]["state"] == "running"
