"""Environment variables of torchrun: consistent ones, and those that other programs left behind."""

from __future__ import annotations

import os
import socket

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import TrainRecipe
from flatvq.train import machine
from flatvq.train.launch import ALONE, Launch, forget_launch, launch_of

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, ALONE),
        ({"RANK": "0"}, ALONE),
        ({"WORLD_SIZE": "1"}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", **ADDRESS}, Launch(0, 1, 0)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", **ADDRESS}, Launch(3, 4, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3", **ADDRESS}, Launch(3, 4, None)),
        ({"MASTER_ADDR": "", "MASTER_PORT": "any"}, ALONE),
    ],
)
def test_consistent_variables_are_read(environment: dict[str, str], launch: Launch) -> None:
    assert launch_of(environment) == launch


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is '4' in the environment, but RANK is not set"),
        ({"WORLD_SIZE": "4", "RANK": "0"}, "but MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "a"}, "but MASTER_PORT is not set"),
        ({"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "", "MASTER_PORT": "1"}, "MASTER_ADDR is not set"),
        ({"RANK": "7"}, "RANK is '7' in the environment, but WORLD_SIZE is not set"),
        ({"RANK": "7", "WORLD_SIZE": "2", **ADDRESS}, "RANK is '7' in the environment, but WORLD_SIZE is 2"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "but WORLD_SIZE is 1"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '' in the environment, which is not an integer"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc'"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE is '999"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE is '²'"),
        ({"WORLD_SIZE": "1", "RANK": ""}, "RANK is ''"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "70000"},
            "MASTER_PORT is '70000'",
        ),
    ],
)
def test_leftovers_are_refused_by_name(environment: dict[str, str], message: str) -> None:
    with pytest.raises(FlatvqError) as refused:
        launch_of(environment)
    assert message in str(refused.value)
    assert "start with torchrun, or unset " in str(refused.value)


def test_a_process_that_trains_alone_removes_the_variables(monkeypatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "9", "LOCAL_RANK": "x", **ADDRESS}.items():
        monkeypatch.setenv(name, value)
    forget_launch()
    assert launch_of(os.environ) == ALONE


def test_processes_that_never_start_are_waited_for_five_minutes(monkeypatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert machine._JOIN_TIMEOUT.total_seconds() == 300
    monkeypatch.setattr(machine, "_JOIN_TIMEOUT", machine._JOIN_TIMEOUT / 300)
    with (
        pytest.raises(FlatvqError, match=r"cannot join the other processes \(Timed out .* unset WORLD_SIZE"),
        machine.machine_for(TrainRecipe(device="cpu")),
    ):
        pass


def test_a_training_alone_ignores_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with machine.machine_for(TrainRecipe(device="cpu"), ALONE) as alone:
        assert (alone.rank, alone.world_size) == (0, 1)
