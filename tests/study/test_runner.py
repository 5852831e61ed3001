"""Which trial runs where, and what is said of one that died without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatvq.recipe import load_recipe
from flatvq.study import devices, plan_study, runner


def test_trials_are_spread_over_gpus() -> None:
    taken: list[str | None] = []
    for _ in range(5):
        taken.append(devices.least_busy(["2", "5"], taken))
    assert taken == ["2", "5", "2", "5", "2"]
    assert devices.least_busy(["2", "5"], taken[1:3]) == "2"
    assert devices.least_busy([], [None, None]) is None


@pytest.mark.parametrize(("visible", "gpus"), [(None, ["0", "1", "2"]), ("4,7", ["4", "7"])])
def test_visible_gpus_are_respected(monkeypatch, visible: str | None, gpus: list[str]) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus_for("auto") == gpus
    assert devices.gpus_for("cpu") == []
    assert devices.workers_for(load_recipe("photographs"), 16) == len(gpus)


def test_the_recipe_sets_the_number_of_workers() -> None:
    assert devices.workers_for(load_recipe("photographs", ["workers=5"]), 16) == 5
    alone = load_recipe("photographs", ["workers=50"])
    assert devices.workers_for(alone, 4) == 4, "no more workers than trials"


def test_time_left_is_the_work_left_at_the_pace_so_far(monkeypatch) -> None:
    trials = plan_study(load_recipe("photographs", ["seeds=[0]"]), "photographs").trials
    now = 100.0
    monkeypatch.setattr(runner.time, "monotonic", lambda: now)
    done, first, second, third = (runner.Outcome(trial) for trial in trials)
    done.status = "done"
    progress = runner.StudyProgress([done, first, second, third], started=now)
    assert progress.seconds_left is None, "there is no pace yet"
    now = 160.0
    first.status = "done"
    work = [runner._work(outcome, outcome.steps) for outcome in (first, second, third)]
    # What was done before this call took none of these 60 seconds.
    assert progress.seconds_left == pytest.approx(60 * (work[1] + work[2]) / work[0])


def test_two_workers_finish_together_though_healthy_arms_take_longer() -> None:
    trials = plan_study(load_recipe("photographs", ["seeds=[5,0,7,1]"]), "photographs").trials
    outcomes = [runner.Outcome(trial) for trial in trials]

    def idle_at_the_end(order: list[runner.Outcome]) -> int:
        busy_until = [0, 0]
        for outcome in order:
            takes = 33 if "healthy" in str(outcome.trial.run) else 29
            busy_until[busy_until.index(min(busy_until))] += takes
        return max(busy_until) - min(busy_until)

    order = runner._in_turn(outcomes)
    assert sorted(map(id, order)) == sorted(map(id, outcomes))
    assert [outcome.trial.recipe.seed for outcome in order[::4]] == [5, 0, 7, 1]
    assert (idle_at_the_end(outcomes), idle_at_the_end(order)) == (32, 0)


def test_a_process_that_died_is_told_by_its_signal() -> None:
    assert runner._ending(-9, Path("run")) == "killed by SIGKILL; see run/log.txt"
    assert runner._ending(1, Path("run")) == "ended with exit code 1; see run/log.txt"
