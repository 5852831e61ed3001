"""Slurm: job arrays by `sbatch`, their states by `squeue`. No accounting, and no Python package.

A submission is one job array, whose name is that of the submission. Slurm itself queues a job again when a
node fails or a job of higher priority preempts it. The job script does it after a crash and before the time
limit (`flatvq.engines.attempts` decides whether). So nothing has to watch the jobs.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flatvq.engines.attempts import AGAIN
from flatvq.engines.engine import NoAnswerError, State, Unit
from flatvq.errors import FlatvqError
from flatvq.files import write_bytes
from flatvq.recipe import ClusterRecipe

__all__ = ["Slurm"]

_TIMEOUT = 120.0
# In all other states, such as COMPLETING or REQUEUE_HOLD, a job may still run or run again.
_ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ]
)
_HELD = "launch failed"  # the start of a reason: a node could not start the job, and Slurm holds it forever
_NO_INDEX = "N/A"  # of the waiting jobs of an array that `scancel` ended by user or by name, all in one line
_OF_SITE = frozenset(["SLURM_CLUSTERS", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"])
_RUNNING = frozenset(["COMPLETING", "RUNNING", "STAGE_OUT", "STOPPED", "SUSPENDED", "SIGNALING"])

# `wait` also returns when a signal arrives. Signals to the script go to the unit, which writes a checkpoint.
_SCRIPT = """#!/bin/bash
# {command}
export PYTHONSAFEPATH=1  # no module of the working directory takes the place of another one
{setup}
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {units})
export FLATVQ_HEAD=$(hostname) FLATVQ_PORT=$((20000 + SLURM_JOB_ID % 10000))
eval "exec $line" &
child=$!
trap 'kill -TERM $child' TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
# {again}: try again. Above 128: killed, as by the kernel when memory runs out.
if [ $code -eq {again} ] || [ $code -gt 128 ]; then
  trap - TERM
  # One of the tasks has the ID of the array. Requeueing that ID would queue all tasks again.
  job=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
  # Slurm would also requeue a job that is being cancelled. A job at its time limit has a reason.
  squeue --noheader --jobs=$job --format="%T %r" | grep -q "^COMPLETING None" && exit $code
  scontrol requeue $job && sleep 120
fi
exit $code
"""
_TORCHRUN = (
    "srun --kill-on-bad-exit=1 {python} -m torch.distributed.run "
    "--nnodes={nodes} --nproc-per-node={processes} "
    "--rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}} "
    "--rdzv-endpoint=$FLATVQ_HEAD:$FLATVQ_PORT -m"
)


class Slurm:
    """The Slurm cluster of this machine.

    Args:
        cluster: the section `cluster` of a recipe.

    Raises:
        FlatvqError: if Slurm's commands are missing.
        NoAnswerError: if its controller does not answer.
    """

    def __init__(self, cluster: ClusterRecipe) -> None:
        self.cluster = cluster
        if missing := next(
            (name for name in ("sbatch", "squeue", "scancel", "scontrol") if not shutil.which(name)), None
        ):
            what = f"Slurm's command {missing!r} is not on this machine"
            raise FlatvqError(what, "run flatvq on a login node of the cluster, or leave --on out")
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _output("scontrol", "show", "config"), re.MULTILINE)
        self.largest = max(1, int(match[1]) - 1) if match else 1000
        """The largest number of jobs of an array: Slurm's MaxArraySize is one more than the last index."""

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        """Submit a job array. See `Engine.submit`."""
        lines = [self._line(unit) for unit in units]
        table, script = folder / f"{name}.units", folder / f"{name}.sh"
        options = [
            f"--job-name={name}",
            f"--array=0-{len(units) - 1}%{running}",
            f"--output={str(folder).replace('%', '%%')}/{name}-%a.log",
            f"--chdir={Path.cwd()}",
            *self._options(),
        ]
        # On the command line, options have precedence over the environment of the user.
        command = ["sbatch", *options, str(script)]
        if bad := next((line for line in (*lines, shlex.join(command)) if "\n" in line), None):
            raise FlatvqError(f"a path or an option has a line break in {bad!r}", "rename the folder")
        parts = {"setup": "\n".join(self._setup()), "units": shlex.quote(str(table)), "again": AGAIN}
        write_bytes(table, os.fsencode("".join(f"{line}\n" for line in lines)))
        write_bytes(script, os.fsencode(_SCRIPT.format(command=shlex.join(command), **parts)))
        _output(*command)

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        """Ask `squeue` once for all submissions. See `Engine.states`."""
        options = [
            "--noheader",
            "--array",
            "--states=all",
            f"--name={','.join(names)}",
            "--format=%j|%K|%T|%r",
        ]
        states: dict[str, dict[int, State]] = {name: {} for name in names}
        ended_early = set()
        for line in _output("squeue", *options).splitlines():
            name, index, state, reason = [*line.strip().split("|", 3), "", "", ""][:4]
            if name in states and index.isdecimal():  # other lines may name a cluster, or be of the site
                states[name][int(index)] = _state(state, reason)
            elif name in states and (index, state) == (_NO_INDEX, "CANCELLED"):
                ended_early.add(name)
        for name in ended_early:
            for place in range(self.largest):
                states[name].setdefault(place, "cancelled")
        return states

    def limit(self, name: str, running: int) -> None:
        """Change the limit of a job array. See `Engine.limit`."""
        with suppress(NoAnswerError):  # it fails if no job of the array waits any more
            _output("scontrol", "update", f"jobname={name}", f"arraytaskthrottle={running}")

    def cancel(self, names: Sequence[str]) -> None:
        """Cancel job arrays. See `Engine.cancel`."""
        for name in names:
            _output("scancel", f"--name={name}")

    def _line(self, unit: Unit) -> str:
        """Return the shell command of a unit."""
        python = shlex.quote(sys.executable)
        supervisor = ["-m", "flatvq.engines.attempts", str(self.cluster.attempts), str(unit.folder)]
        processes = max(1, self.cluster.gpus_per_trial)
        launcher = f"{python} -m"
        if processes * self.cluster.nodes > 1:
            launcher = _TORCHRUN.format(python=python, nodes=self.cluster.nodes, processes=processes)
        return f"{python} {shlex.join(supervisor)} {launcher} {shlex.join(unit.module)}"

    def _setup(self) -> list[str]:
        cluster = self.cluster
        threads = max(1, cluster.cpus // max(1, cluster.gpus_per_trial))
        return [*([f"export OMP_NUM_THREADS={threads}"] if cluster.cpus else []), *cluster.setup]

    def _options(self) -> list[str]:
        cluster = self.cluster
        chosen = {
            "partition": cluster.partition,
            "account": cluster.account,
            "qos": cluster.qos,
            "time": cluster.time_limit,
            "gres": f"gpu:{cluster.gpus_per_trial}" if cluster.gpus_per_trial else "",
            "cpus-per-task": str(cluster.cpus or ""),
            "mem": f"{round(cluster.memory_gb * 1024)}M" if cluster.memory_gb else "",
        }
        return [
            "--requeue",
            "--open-mode=append",
            f"--nodes={cluster.nodes}",
            "--ntasks-per-node=1",
            f"--signal=B:TERM@{cluster.stop_seconds}",
            *(f"--{key}={value}" for key, value in chosen.items() if value),
            *cluster.options,
        ]


def _state(name: str, reason: str) -> State:
    if reason.replace("_", " ").startswith(_HELD):
        return "lost"
    if name in _ENDED:
        return "cancelled" if name == "CANCELLED" else "ended"
    return "running" if name in _RUNNING else "waiting"


def _environment() -> dict[str, str]:
    """Return the environment for Slurm's commands.

    Some variables are left out: those that select what `squeue` lists and `scancel` ends, that let `scancel`
    ask, and that let `sbatch` wait for its jobs. If this process runs in a job itself, so are the variables
    that describe that job: new jobs inherit them, and then `srun` uses its memory and its cores.
    """
    hidden = ("SQUEUE_", "SCANCEL_", *(("SLURM_",) if "SLURM_JOB_ID" in os.environ else ()))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _OF_SITE or not (name.startswith(hidden) or name == "SBATCH_WAIT")
    }
    if clusters := environment.get("SBATCH_CLUSTERS"):  # the other commands read another variable
        environment["SLURM_CLUSTERS"] = clusters
    return environment


def _output(*command: str) -> str:
    """Run a command of Slurm and return its output.

    Raises:
        FlatvqError: if `sbatch` refuses a job.
        NoAnswerError: if the command does not end, or if another command than `sbatch` fails.
    """
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"{command[0]} does not answer ({error})", "try again later") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"exit code {done.returncode}"
        ]
        what = f"{command[0]} failed: {lines[-1].strip()}"
        if command[0] == "sbatch":
            raise FlatvqError(what, "correct the section cluster")
        raise NoAnswerError(what, "try again later, or ask the site")
    return done.stdout
