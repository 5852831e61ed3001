"""The faults that only Slurm has."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.faults.slurm import Slurm
from benchmarks.faults.study import Fault, SmallStudy

__all__ = ["GANG", "SLURM"]


def _job_of(run: Path) -> str:
    """Return the job of the latest attempt of a trial, such as `12_3`."""
    lines = (run / "attempts.jsonl").read_text(encoding="utf-8").splitlines()
    return str(next(event["job"] for event in map(json.loads, reversed(lines)) if "job" in event))


def _kill_job(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    array, task = _job_of(study.one_running(randomness)[0]).split("_")
    study.site.kill_job(array, task)


def _requeue(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    job = _job_of(study.one_running(randomness)[0])
    with suppress(subprocess.CalledProcessError):  # it may have ended by now
        study.site.slurm("scontrol", "requeue", job)


def _reach_time_limit(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    job = _job_of(study.one_running(randomness)[0])
    with suppress(subprocess.CalledProcessError):
        study.site.slurm("scontrol", "update", f"jobid={job}", "TimeLimit=1")


def _preempt(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    arguments = ["--partition=urgent", "--gres=gpu:2", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"]
    study.site.slurm("sbatch", *arguments)


def _kill_rank(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    run, _ = study.one_running(randomness)
    for rank in study.site.having(f"flatvq train {run.resolve()}", "RANK=1"):
        study.site.send(rank, signal.SIGKILL)


def _lose_node(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    """Kill a node's daemon and all its jobs, and start it again after the controller has noticed."""
    name = randomness.choice(["n1", "n2"])
    study.site.lose_node(name)
    study.site.start_node(name)
    with suppress(subprocess.CalledProcessError):  # it may have returned by itself
        study.site.slurm("scontrol", "update", f"nodename={name}", "state=resume")


def _restart_controller(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    study.site.kill("slurmctld")
    time.sleep(randomness.uniform(0, 4))
    study.site.start_controller()


SLURM: dict[str, Fault[Any]] = {
    "kill of a job": Fault(_kill_job),
    "scontrol requeue": Fault(_requeue),
    "time limit": Fault(_reach_time_limit),
    "preemption": Fault(_preempt),
    "loss of a node": Fault(_lose_node),
    "restart of the controller": Fault(_restart_controller),
}
"""What happens to a study on Slurm, by name."""
GANG: dict[str, Fault[Any]] = {"kill -9 of the second rank": Fault(_kill_rank)}
"""What only happens to trials of two processes on two nodes.

Such a job never starts again after the loss of a node on Slurm 22.05, which then counts its GPUs wrongly.
"""
