"""How jobs run on a cluster. Nothing here changes a result or the identity of a study."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

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

# Options of sbatch that flatvq gives itself, and what to set instead.
_CLUSTERS = "the environment variable SLURM_CLUSTERS, which all of Slurm's commands read"
_KEYS = {
    **{"--time": "time_limit", "-t": "time_limit", "--nodes": "nodes", "-N": "nodes"},
    **{"--clusters": _CLUSTERS, "-M": _CLUSTERS},
}
_OWN = (
    *("--array", "-a", "--job-name", "-J", "--output", "-o", "--chdir", "-D", "--open-mode", "--signal"),
    *("--requeue", "--no-requeue", "--ntasks", "-n", "--ntasks-per-node", "--wrap", "--wait", "-W"),
    *("--test-only", "--help", "-h", "--usage", "--version", "-V"),
)


class ClusterRecipe(Section):
    """How jobs run on a cluster (`flatvq study --on slurm`). These keys do not change a study's identity."""

    gpus_per_trial: int = Field(1, ge=0, le=1024)
    """GPUs of a trial on each of its nodes. With more than one, one process per GPU trains a share of each
    batch."""
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
    must be longer, and leave a trial some minutes to start and train."""
    max_running: int = Field(64, ge=1, le=1_000_000)
    """Largest number of trials that run at a time."""
    attempts: int = Field(3, ge=1, le=1000)
    """Number of failures after which a trial is not tried again. A stop by a time limit or a preemption does
    not count as a failure if the trial made progress."""
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
    """Seconds between two queries of the cluster."""
    answer_seconds: float = Field(3600.0, gt=0, le=1e7)
    """Seconds without any answer of the cluster after which a command that waits for jobs ends. It ends no
    job."""
    address: _Word = ""
    """Address of the head of a Ray cluster, `HOST:PORT`. Empty: the environment variable RAY_ADDRESS."""

    @model_validator(mode="after")
    def _time_limit_leaves_time(self) -> Self:
        seconds = _seconds(self.time_limit)
        if 0 < seconds <= self.stop_seconds:  # 0 is no limit
            limit = f"time_limit={self.time_limit} ({seconds} seconds)"
            raise ValueError(f"{limit} is not longer than stop_seconds={self.stop_seconds}")
        return self

    @model_validator(mode="after")
    def _every_process_has_a_core(self) -> Self:
        if 0 < self.cpus < self.gpus_per_trial:
            raise ValueError(f"cpus={self.cpus} is less than gpus_per_trial={self.gpus_per_trial}")
        return self

    @model_validator(mode="after")
    def _options_are_not_flatvqs(self) -> Self:
        for option in self.options:
            # sbatch also takes the start of a long name, and the value of a short one without a space.
            given = re.split(r"[=\s]", option)[0] if option.startswith("--") else option[:2]
            name = next((own for own in (*_KEYS, *_OWN) if own.startswith(given) and len(given) > 2), given)
            if name in _KEYS:
                raise ValueError(f"options contains {option!r}, which flatvq sets by {_KEYS[name]}")
            if name in _OWN:
                raise ValueError(f"options contains {option!r}, which flatvq sets itself")
        return self


def _seconds(limit: str) -> int:
    """Return the seconds of a time limit of Slurm; 0 if it is empty.

    Example:
        >>> _seconds("90"), _seconds("1:30"), _seconds("4:00:00"), _seconds("2-0"), _seconds("1-2:30")
        (5400, 90, 14400, 172800, 95400)
    """
    days, dash, rest = limit.rpartition("-")
    fields = [int(field or 0) for field in rest.split(":")]
    # After days come hours; without days, one or two fields are minutes and seconds.
    hours = fields if dash or len(fields) == 3 else [0, *fields]
    hours += [0] * (3 - len(hours))
    return int(days or 0) * 86_400 + hours[0] * 3600 + hours[1] * 60 + hours[2]
