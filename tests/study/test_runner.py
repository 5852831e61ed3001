"""The device and order of trials, the remaining time, and the error of a trial that was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatvq.recipe import load_recipe
from flatvq.study import Outcome, StudyProgress, devices, outcome, plan_study, runner, running


def test_trials_are_spread_over_gpus() -> None:
    in_use: list[str | None] = []
    for _ in range(5):
        in_use.append(devices.least_busy(["2", "5"], in_use))
    assert in_use == ["2", "5", "2", "5", "2"]
    assert devices.least_busy(["2", "5"], in_use[1:3]) == "2"
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
    many = load_recipe("photographs", ["workers=50"])
    assert devices.workers_for(many, 4) == 4, "no more workers than trials"


def test_remaining_time_is_the_remaining_work_at_the_average_speed(monkeypatch) -> None:
    trials = plan_study(load_recipe("photographs", ["seeds=[0]"]), "photographs").trials
    now = 100.0
    monkeypatch.setattr(outcome.time, "monotonic", lambda: now)
    done, first, second, third = (Outcome(trial) for trial in trials)
    done.status = "done"
    progress = StudyProgress([done, first, second, third], started=now)
    assert progress.seconds_left is None, "no step is done yet"
    now = 160.0
    first.status = "done"
    work = [outcome._multiply_adds(waiting, waiting.steps) for waiting in (first, second, third)]
    # The work before this call took none of these 60 seconds.
    assert progress.seconds_left == pytest.approx(60 * (work[1] + work[2]) / work[0])


def test_two_workers_finish_together_though_healthy_arms_take_longer() -> None:
    overrides = [
        "seeds=[5,0,7,1]",
        *(f"arms.{name}-naive.max_seeds=0" for name in ("two-level", "single-level")),
    ]
    trials = plan_study(load_recipe("photographs", overrides), "photographs").trials
    outcomes = [Outcome(trial) for trial in trials]

    def idle_at_the_end(order: list[Outcome]) -> int:
        busy_until = [0, 0]
        for state in order:
            seconds = 33 if "healthy" in str(state.trial.run) else 29
            busy_until[busy_until.index(min(busy_until))] += seconds
        return max(busy_until) - min(busy_until)

    order = runner._start_order(outcomes)
    assert sorted(map(id, order)) == sorted(map(id, outcomes))
    assert [state.trial.recipe.seed for state in order[::4]] == [5, 0, 7, 1]
    assert (idle_at_the_end(outcomes), idle_at_the_end(order)) == (32, 0)


def test_the_error_of_a_killed_process_names_its_signal() -> None:
    assert running._describe_exit(-9, Path("run")) == "killed by SIGKILL; see run/log.txt"
    assert running._describe_exit(1, Path("run")) == "ended with exit code 1; see run/log.txt"
