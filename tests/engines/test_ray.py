"""A study on a real Ray cluster, in a network namespace without other machines; and refused clusters."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.faults.ray import Ray as RayCluster
from benchmarks.faults.ray import missing
from benchmarks.faults.study import Fault, SmallStudy
from benchmarks.faults.table import FAULTS

from flatvq.engines.attempts import attempts_of, ended_well
from flatvq.engines.engine import NoAnswerError, Unit
from flatvq.engines.ray import Ray, _Submission
from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe


@pytest.fixture
def no_ray_settings(monkeypatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_no_cluster_is_joined_without_an_address(no_ray_settings) -> None:
    with pytest.raises(FlatvqError, match=r"no Ray cluster is named: set cluster\.address"):
        Ray(ClusterRecipe())


def test_no_cluster_is_joined_without_a_token(no_ray_settings, tmp_path: Path) -> None:
    recipe = ClusterRecipe(address="127.0.0.1:1")
    with pytest.raises(FlatvqError, match="without a token: run `ray get-auth-token --generate`"):
        Ray(recipe)
    no_ray_settings.setenv("RAY_AUTH_MODE", "token")
    no_ray_settings.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(FlatvqError, match="without a token"):
        Ray(recipe)
    no_ray_settings.setenv("RAY_AUTH_TOKEN", "secret")
    no_ray_settings.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(FlatvqError, match="without a token"):
        Ray(recipe)


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    place = Path("/tmp") / f"flatvq-ray-{secrets.token_hex(3)}"  # short, as Ray's sockets are in it
    place.mkdir()
    running = RayCluster(place)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")
def test_a_study_on_ray_survives_its_driver_and_a_killed_trial(cluster: RayCluster, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cluster, seeds=1)
    undisturbed = study.undisturbed()

    def kill_both(study: SmallStudy[RayCluster], randomness: random.Random) -> None:
        for name in ("kill -9 of a trial", "kill -9 of the driver"):
            FAULTS["ray"][name].act(study, randomness)

    disturbance = study.disturb("both", Fault(kill_both), undisturbed, random.Random(0))
    assert disturbance.faults == ()
    assert disturbance.attempts == 3
    assert disturbance.commands == 2


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")
def test_a_submission_that_is_started_again_leaves_finished_trials_alone(
    cluster: RayCluster, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cluster, steps=40, seeds=2)
    undisturbed = study.undisturbed()
    done: set[Path] = set()

    def kill_when_a_trial_is_done(study: SmallStudy[RayCluster], randomness: random.Random) -> None:
        study.wait_for(lambda: any(map(ended_well, study.runs())))
        done.update(run for run in study.runs() if ended_well(run))
        FAULTS["ray"]["kill -9 of the submission"].act(study, randomness)

    disturbance = study.disturb("late", Fault(kill_when_a_trial_is_done), undisturbed, random.Random(0))
    assert disturbance.faults == ()
    assert 0 < len(done) < len(study.runs())
    assert all(attempts_of(run).total == 1 for run in done)


class _RayError(Exception):
    """As `ray.exceptions.RayError`."""


class _GetTimeoutError(_RayError):
    pass


class _RayActorError(_RayError):
    pass


@pytest.fixture
def without_head() -> Ray:
    """An engine whose cluster has lost its head. Ray is a stub, so that this needs no cluster."""

    def get(answer: object, timeout: float) -> object:
        raise _GetTimeoutError("Get timed out.\nMore lines")

    engine = Ray.__new__(Ray)
    method = SimpleNamespace(remote=lambda: None)
    engine._ray = SimpleNamespace(
        get=get,
        get_actor=lambda name, namespace: SimpleNamespace(states=method, cancel=method),
        exceptions=SimpleNamespace(RayError=_RayError, RayActorError=_RayActorError),
    )
    return engine


def test_a_cluster_without_its_head_does_not_answer(without_head: Ray) -> None:
    with pytest.raises(NoAnswerError) as refused:
        without_head.states(["s-1"])
    assert str(refused.value) == "the Ray cluster does not answer (Get timed out.): try again later"


def test_units_of_a_cluster_that_does_not_answer_are_not_reported_as_cancelled(without_head: Ray) -> None:
    killed: list[object] = []
    without_head._ray.kill = killed.append
    with pytest.raises(NoAnswerError, match=r"does not answer \(Get timed out\.\)"):
        without_head.cancel(["s-1"])
    assert killed == []

    def ended(answer: object, timeout: float) -> object:
        raise _RayActorError("The actor died.")

    without_head._ray.get = ended
    without_head.cancel(["s-1"])
    assert len(killed) == 1


def test_submissions_that_a_new_cluster_does_not_know_have_no_units(without_head: Ray) -> None:
    def unknown(name: str, namespace: str) -> None:
        raise ValueError(f"Failed to look up actor with name '{name}'.")

    without_head._ray.get_actor = unknown
    assert without_head.states(["s-1"]) == {"s-1": {}}
    without_head.limit("s-1", 3)
    without_head.cancel(["s-1"])


class _StubRay:
    """Runs each task when its result is read, and raises its errors as Ray does. Tasks end in their order."""

    exceptions = SimpleNamespace(RayError=_RayError)

    def __init__(self, most: int) -> None:
        self.most = most

    def remote(self, **options: object) -> Callable[..., object]:
        def task(function: Callable[..., int]) -> SimpleNamespace:
            self.most -= 1
            assert self.most >= 0, "too many tasks"
            started = SimpleNamespace(remote=partial(partial, function))
            return SimpleNamespace(options=lambda **options: started)

        return task

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        return tasks[:1], tasks[1:]

    def get(self, task: Callable[[], int]) -> int:
        try:
            return task()
        except Exception as error:
            raise _RayError(str(error)) from None

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(was_current_actor_reconstructed=False)


class _ThreadAtOnce:
    def __init__(self, target: Callable[[], None], daemon: bool) -> None:
        self.start = target


def test_a_unit_that_no_host_can_start_is_not_started_forever(tmp_path: Path, monkeypatch) -> None:
    """Such as when the command ran in a folder that the hosts do not share."""
    monkeypatch.setitem(sys.modules, "ray", _StubRay(most=10))
    monkeypatch.setattr(threading, "Thread", _ThreadAtOnce)
    unit = Unit(tmp_path, ("timeit", "-n1", "-r1", "1"))
    resources = {"num_cpus": 1, "num_gpus": 0, "memory": 0}
    log = tmp_path / "s-1"
    for directory, attempts in ((tmp_path / "missing", 0), (tmp_path, 1)):
        submission = _Submission([unit], resources, 1, 3, 2, str(directory), str(log))
        assert submission.states() == {0: "ended"}
        assert attempts_of(tmp_path).total == attempts
    assert (tmp_path / "s-1-0.log").read_text().count(f"No such file or directory: '{tmp_path}/missing'") == 3


def test_ray_does_not_end_the_process_before_the_limit(monkeypatch) -> None:
    """By default it does after 60 seconds, with exit code 1."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    Ray(ClusterRecipe(address="127.0.0.1:1", answer_seconds=7200))
    assert int(environment["RAY_gcs_rpc_server_reconnect_timeout_s"]) > 7200
