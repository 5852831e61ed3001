"""A study on a real Ray cluster, in a network namespace without other machines; and refused clusters."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.faults.ray import Ray as RayCluster
from benchmarks.faults.ray import missing
from benchmarks.faults.study import Fault, SmallStudy
from benchmarks.faults.table import FAULTS

from flatvq.engines.attempts import attempts_of, ended_well
from flatvq.engines.ray import Ray
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
