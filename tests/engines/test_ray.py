"""A study on a real Ray cluster, in a network namespace without other machines; and refused clusters."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks.faults.cluster import wait_for
from benchmarks.faults.study import FAULTS, StudyOnCluster

from flatvq.engines.ray import Ray
from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe

_NAMESPACE = "ip link set lo up; echo $$ > {file}; while :; do sleep 1 & wait $!; done"


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


def _missing() -> str | None:
    if find_spec("ray") is None:
        return "ray (pip install 'flatvq[ray]')"
    if absent := next((name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None), None):
        return absent
    return None if os.geteuid() == 0 else "root, for a network namespace"


class _RayCluster:
    """A head in a namespace. Programs that join it run there, too. Stands in for `Cluster`."""

    def __init__(self, place: Path) -> None:
        token = place / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": "127.0.0.1:6379",
        }
        inner = place / "pid"
        words = ["unshare", "-pfn", "--mount-proc", "bash", "-c", _NAMESPACE.format(file=inner)]
        self._outer = subprocess.Popen(words)
        wait_for(inner.exists)
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self._inner = int(children.read_text().split()[0])
        self.prefix = ("nsenter", "-t", str(self._inner), "-p", "-n", "-m")
        head = ["--head", "--port=6379", "--node-ip-address=127.0.0.1", "--num-cpus=4", "--num-gpus=2"]
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *head, "--include-dashboard=false"]
        subprocess.run(
            [*self.prefix, *ray, f"--temp-dir={place}"], env=self.environment, check=True, capture_output=True
        )

    def start_now(self) -> None:
        """Ray lets nothing wait."""

    def stop(self) -> None:
        os.kill(self._inner, signal.SIGKILL)  # ends all processes of the namespace
        self._outer.wait()


@pytest.fixture
def cluster() -> Iterator[_RayCluster]:
    place = Path("/tmp") / f"flatvq-ray-{secrets.token_hex(3)}"  # short, as Ray's sockets are in it
    place.mkdir()
    running = _RayCluster(place)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(_missing() is not None, reason=f"needs {_missing()}")
def test_a_study_on_ray_survives_its_driver_and_a_killed_trial(cluster: _RayCluster, tmp_path: Path) -> None:
    study = StudyOnCluster(tmp_path, cluster, steps=300, seeds=1, on="ray")
    undisturbed = study.undisturbed()

    def kill_both(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
        for pattern in (f"flatvq train {study.running()[0]}", f"flatvq study {study.recipe}"):
            found = subprocess.run(["pgrep", "-nf", pattern], capture_output=True, text=True, check=True)
            os.kill(int(found.stdout), signal.SIGKILL)
        driver.wait()
        time.sleep(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAULTS, "both", kill_both)
        disturbance = study.disturb("both", undisturbed, random.Random(0))
    assert disturbance.faults == ()
    assert disturbance.attempts == 3
