"""A small study, undisturbed on this machine or disturbed on a cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crashes.folders import results
from benchmarks.crashes.scenarios import write_images
from benchmarks.faults.cluster import Cluster
from flatvq.train.lease import newest_owner

__all__ = ["FAULTS", "Disturbance", "StudyOnCluster"]

_RECIPE: dict[str, Any] = {
    "data": {"source": "folder", "crop": 16, "validation_share": 0.25},
    "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 8, "code_dim": 2}]},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
    "train": {
        "batch_size": 2,
        "validate_every": 50,
        "checkpoint_every": 5,
        "record_every": 5,
        "precision": "float32",
        "compile": "never",
    },
    "evaluate": {"samples": 1},
    "arms": {"plain": {}, "other": {"codebook": {"replacement": {"every": 3}}}},
    "workers": 2,
    "cluster": {"gpus_per_trial": 1, "cpus": 1, "poll_seconds": 0.5, "attempts": 5},
}


@dataclass(frozen=True)
class Disturbance:
    """What happened to a study, and what was wrong in the end."""

    fault: str
    step: int
    """The newest step of any trial at that time."""
    attempts: int
    """Of all trials together."""
    seconds: float
    faults: tuple[str, ...]


class StudyOnCluster:
    """A study of two arms and some seeds, run by `flatvq study`.

    Args:
        place: a folder; created if it does not exist.
        cluster: the cluster, started.
        steps: training steps of a trial.
        seeds: the number of seeds.
        on: the engine.
    """

    def __init__(
        self, place: Path, cluster: Cluster, steps: int = 300, seeds: int = 2, on: str = "slurm"
    ) -> None:
        self.place, self.cluster, self.steps, self.on = place, cluster, steps, on
        place.mkdir(exist_ok=True)
        images = place / "images"
        if not images.exists():
            write_images(images)
        tree = {**_RECIPE, "seeds": list(range(seeds))}
        tree |= {
            "train": {**_RECIPE["train"], "steps": steps},
            "data": {**_RECIPE["data"], "path": str(images)},
        }
        self.recipe = place / "small.yaml"
        self.recipe.write_text(json.dumps(tree), encoding="utf-8")
        self._words = [sys.executable, "-m", "flatvq", "study", str(self.recipe), "--out"]
        self._environment = {**cluster.environment, "OMP_NUM_THREADS": "1"}
        self.folder = place / "cluster"

    def undisturbed(self) -> Mapping[str, Any]:
        """Run the study on this machine and return its results without times."""
        subprocess.run([*self._words, str(self.place / "local")], check=True, capture_output=True)
        return results(self.place / "local", times=False)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the study on the cluster."""
        log = (self.place / "driver.txt").open("ab")
        with log:
            words = (*self.cluster.prefix, *self._words, str(self.folder), "--on", self.on, *words)
            return subprocess.Popen(words, env=self._environment, stdout=log, stderr=log)

    def runs(self) -> list[Path]:
        """Return the folders of the trials."""
        return sorted(self.folder.glob("runs/*/seed-*"))

    def running(self) -> list[Path]:
        """Return the folders of the trials that have written a checkpoint and are not done."""
        return [run for run in self.runs() if 0 < _step(run) < self.steps and _is_held(run)]

    def disturb(self, fault: str, undisturbed: Mapping[str, Any], randomness: random.Random) -> Disturbance:
        """Run the study with a fault, to its end, and compare with an undisturbed one."""
        start, driver = time.monotonic(), self.start()
        deadline = start + 1800
        while not self.running() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(randomness.uniform(0, 1))
        step = max(map(_step, self.runs()), default=0)
        FAULTS[fault](self, driver, randomness)
        faults = self._finish(driver, deadline)
        faults += _differences(undisturbed, self.folder)
        attempts = sum(newest_owner(run)[0] for run in self.runs())
        return Disturbance(fault, step, attempts, round(time.monotonic() - start, 1), tuple(faults))

    def _finish(self, driver: subprocess.Popen[bytes], deadline: float) -> list[str]:
        """Run the command until it ends by itself; return what was wrong."""
        while True:
            while driver.poll() is None:
                self.cluster.start_now()
                if time.monotonic() > deadline:
                    driver.kill()
                    driver.wait()
                    return ["not done in time"]
                time.sleep(0.5)
            if driver.returncode != -signal.SIGKILL:
                break
            driver = self.start()
        return [] if driver.returncode == 0 else [f"exit code {driver.returncode}"]


def _step(run: Path) -> int:
    names = [path.name for path in run.glob("checkpoints/step-*")]
    return max((int(name[5:]) for name in names), default=0)


def _is_held(run: Path) -> bool:
    owner = newest_owner(run)[1]
    return owner is not None and owner.held


def _differences(undisturbed: Mapping[str, Any], folder: Path) -> list[str]:
    disturbed = results(folder, times=False)
    names = sorted(undisturbed.keys() | disturbed.keys())
    return [f"{name} differs" for name in names if undisturbed.get(name) != disturbed.get(name)]


def _job_of(run: Path) -> str:
    """Return the job of the latest attempt of a trial, such as `12_3`."""
    lines = (run / "attempts.jsonl").read_text(encoding="utf-8").splitlines()
    return str(next(event["job"] for event in map(json.loads, reversed(lines)) if "job" in event))


def _kill(number: int) -> Callable[[StudyOnCluster, subprocess.Popen[bytes], random.Random], None]:
    def kill(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
        for run in study.running()[:1]:
            owner = newest_owner(run)[1]
            if owner is not None:
                with suppress(ProcessLookupError):
                    os.kill(owner.process, number)

    return kill


def _kill_driver(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
    driver.kill()
    driver.wait()
    time.sleep(randomness.uniform(0, 3))


def _kill_job(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
    for run in study.running()[:1]:
        array, task = _job_of(run).split("_")
        study.cluster.kill_job(array, task)


def _requeue(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
    for run in study.running()[:1]:
        study.cluster.slurm("scontrol", "requeue", _job_of(run))


def _reach_time_limit(
    study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random
) -> None:
    for run in study.running()[:1]:
        study.cluster.slurm("scontrol", "update", f"jobid={_job_of(run)}", "TimeLimit=1")


def _preempt(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
    words = ["--partition=urgent", "--gres=gpu:2", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"]
    study.cluster.slurm("sbatch", *words)


def _kill_node(study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random) -> None:
    """Kill a node's daemon and all its jobs, and start it again after the controller has noticed."""
    study.cluster.lose_node("n1")
    study.cluster.start_node("n1")
    with suppress(subprocess.CalledProcessError):  # it may have returned by itself
        study.cluster.slurm("scontrol", "update", "nodename=n1", "state=resume")


def _restart_controller(
    study: StudyOnCluster, driver: subprocess.Popen[bytes], randomness: random.Random
) -> None:
    study.cluster.kill("slurmctld")
    time.sleep(randomness.uniform(0, 4))
    study.cluster.start_controller()


FAULTS: dict[str, Callable[[StudyOnCluster, subprocess.Popen[bytes], random.Random], None]] = {
    "kill -9 of a trial": _kill(signal.SIGKILL),
    "SIGTERM to a trial": _kill(signal.SIGTERM),
    "kill -9 of the driver": _kill_driver,
    "kill of a job": _kill_job,
    "scontrol requeue": _requeue,
    "time limit": _reach_time_limit,
    "preemption": _preempt,
    "loss of a node": _kill_node,
    "restart of the controller": _restart_controller,
}
"""What happens to a study on a cluster, by name."""
