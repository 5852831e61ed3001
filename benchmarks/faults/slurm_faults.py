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
from flatvq.train.lease import newest_owner

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
    words = ["--partition=urgent", "--gres=gpu:2", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"]
    study.site.slurm("sbatch", *words)


def _kill_rank(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    run, _ = study.one_running(randomness)
    for rank in study.site.having(f"flatvq train {run.resolve()}", "RANK=1"):
        study.site.send(rank, signal.SIGKILL)


def _lose_node(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    _without_node(study, randomness.choice(["n1", "n2"]))


def _pause(study: SmallStudy[Slurm], randomness: random.Random) -> None:
    """Stop a trial and lose its node; its job starts elsewhere and takes it over, and then it goes on."""
    run, process = study.one_running(randomness)
    attempt = newest_owner(run)[0]
    study.site.send(process, signal.SIGSTOP)
    try:
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        node = next(one for one in variables if one.startswith(b"SLURMD_NODENAME=")).partition(b"=")[2]
        _without_node(study, node.decode(), spared=process)
        study.wait_for(lambda: newest_owner(run)[0] > attempt)
        wait = time.monotonic() + randomness.uniform(0, 2)
        study.wait_for(lambda: time.monotonic() > wait)
    finally:
        study.site.send(process, signal.SIGCONT)


def _without_node(study: SmallStudy[Slurm], name: str, spared: int | None = None) -> None:
    """Kill a node's daemon and all its jobs, and start it again after the controller has noticed."""
    study.site.lose_node(name, spared)
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
    "pause of a trial beyond its lease": Fault(_pause),
    "restart of the controller": Fault(_restart_controller),
}
"""What happens to a study on Slurm, by name."""
GANG: dict[str, Fault[Any]] = {
    "kill -9 of the second rank": Fault(_kill_rank),
    **{name: SLURM[name] for name in ("kill of a job", "scontrol requeue", "loss of a node")},
}
"""The same if each trial has two processes on two nodes."""
