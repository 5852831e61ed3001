"""How the trials of a study run on a cluster. Nothing here changes a result or the identity of a study."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from flatvq.recipe.section import Section

__all__ = ["ClusterRecipe"]


def _as_text(value: Any) -> Any:
    """Accept a time limit in minutes as YAML reads it."""
    return str(value) if type(value) is int else value


_Line = Annotated[str, StringConstraints(pattern=r"^[^\n\r\x00]*$", max_length=4096)]
_Word = Annotated[str, StringConstraints(pattern=r"^[^\s\x00]*$", max_length=256)]
_Option = Annotated[str, StringConstraints(pattern=r"^-[^\n\r\x00]+$", max_length=4096)]
# Slurm's forms of a time limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on.
_TimeLimit = Annotated[
    str, BeforeValidator(_as_text), StringConstraints(pattern=r"^(\d+(-\d+)?(:\d+){0,2})?$", max_length=32)
]


class ClusterRecipe(Section):
    """How the trials run on a cluster (`flatvq study --on slurm`). It is no part of the study's identity."""

    gpus_per_trial: int = Field(1, ge=0, le=1024)
    """GPUs of a trial on each of its nodes. With more than one, as many processes share each batch."""
    nodes: int = Field(1, ge=1, le=10_000)
    """Nodes of a trial. With more than one, the processes of all nodes share each batch."""
    cpus: int = Field(0, ge=0, le=10_000)
    """Processor cores of a trial on each of its nodes, and threads of a trial of one process. 0: the
    cluster's default."""
    memory_gb: float = Field(0.0, ge=0, le=1e6)
    """Main memory of a trial on each of its nodes, in GiB. 0: the cluster's default."""
    time_limit: _TimeLimit = ""
    """Slurm's time limit of a job, such as `4:00:00` or `2-0`. A trial that reaches it writes a checkpoint
    and is queued again. Empty: the limit of the partition."""
    stop_seconds: int = Field(120, ge=1, le=65_535)
    """Seconds before the time limit at which a trial is asked to write a checkpoint and end. The time limit
    must leave a trial some minutes before that to start and train."""
    max_running: int = Field(64, ge=1, le=1_000_000)
    """Largest number of trials that run at a time."""
    attempts: int = Field(3, ge=1, le=1000)
    """Number of failures after which a trial is not tried again. A request to stop, as by a time limit or a
    preemption, is no failure if the trial made progress."""
    partition: _Word = ""
    """Slurm's partition. Empty: the default."""
    account: _Word = ""
    """Slurm's account. Empty: the default."""
    qos: _Word = ""
    """Slurm's quality of service. Empty: the default."""
    options: tuple[_Option, ...] = ()
    """Further options of `sbatch`, such as `--constraint=a100`."""
    setup: tuple[_Line, ...] = ()
    """Shell commands before each trial, such as `module load cuda`."""
    poll_seconds: float = Field(10.0, gt=0, le=3600)
    """Seconds between two questions to the cluster."""
    address: _Word = ""
    """Address of the head of a Ray cluster, `HOST:PORT`. Empty: the environment variable RAY_ADDRESS."""
