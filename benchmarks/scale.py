"""The cost of a study of 10,000 trials on a cluster: `python -m benchmarks.scale` writes results/scale.json.

The programs of Slurm are stubs: `sbatch` accepts a job array, and `squeue` prints a table that this program
keeps. Trials are stubs, too: copies of the records of one trial that is trained first. All else is flatvq's:
plan, run folders, submission, polls, outcomes, and `flatvq status`.

Seconds are processor time, of this process and of the programs that it started: on a machine that does other
work, wall time says little. The time that a disk takes to write is not in it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.crashes.scenarios import write_images
from benchmarks.record import make_record
from flatvq.engines.attempts import _append
from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.study import ClusterTrials, Plan, StudyData, StudyProgress, plan_study
from flatvq.study.running import prepare
from flatvq.train import run_trial

_RUNNING = 64
_ROUNDS = 8
_COPIED = ("metrics.json", "status.json")
_PROGRAMS = {
    "sbatch": "name=$1; name=${name#--job-name=}; last=${2#--array=0-}; last=${last%%%*}\n"
    'for ((i = 0; i <= last; i++)); do echo "$name|$i|PENDING"; done >> "$TABLE"\n',
    "squeue": 'cat "$TABLE"\n',
    "scontrol": "echo 'MaxArraySize = 1001'\n",
    "scancel": "true\n",
}


def measure(trials: int, workspace: Path) -> dict[str, float | int]:
    """Submit a study, let its stubs of trials end, and measure the program that waits for them.

    Args:
        trials: the number of trials; half of them for each of two arms.
        workspace: an empty folder.
    """
    folder, table = workspace / "study", workspace / "table"
    table.touch()
    os.environ |= {"PATH": f"{_programs(workspace / 'bin')}:{os.environ['PATH']}", "TABLE": str(table)}
    write_images(workspace / "images")
    template = workspace / "template"
    small = plan_study(_recipe(workspace, 2), "small")
    prepare(small.trials[0], template, StudyData(small).identity)
    run_trial(small.trials[0].recipe, template)
    before = _resident_mb()
    with _timed() as planning:
        plan = plan_study(_recipe(workspace, trials), "scale")
    data = StudyData(plan)
    engine = ClusterTrials("slurm")
    with _timed() as submitting:
        engine.submit(plan, folder, data)
    stub = _Stub(plan, folder, table, template)
    with _timed() as waiting:
        outcomes = engine(plan, folder, data, stub.go_on)
    if any(outcome.status != "done" for outcome in outcomes):
        sys.exit(f"scale: {next(outcome for outcome in outcomes if outcome.status != 'done')}")
    count, after = len(plan.trials), _resident_mb()
    return {
        "trials": count,
        "planning_seconds": round(planning[0], 2),
        "submission_seconds": round(submitting[0], 1),
        "submission_ms_per_trial": round(1000 * submitting[0] / count, 2),
        "polls": stub.polls,
        "waiting_seconds": round(waiting[0] - stub.seconds, 1),
        "waiting_ms_per_trial": round(1000 * (waiting[0] - stub.seconds) / count, 2),
        "driver_mb": round(after),
        "driver_kb_per_trial": round(1000 * (after - before) / count, 1),
        "status_rows": stub.rows,
        "status_seconds": round(stub.status_seconds, 2),
        "status_command_seconds": round(stub.command_seconds, 2),
    }


class _Stub:
    """Lets trials start and end in a few rounds, and measures `flatvq status` when half of them have ended.

    Args:
        plan: the study.
        folder: its folder.
        table: what `squeue` prints.
        template: the folder of a trial that is done.
    """

    def __init__(self, plan: Plan, folder: Path, table: Path, template: Path) -> None:
        self.folder, self.table = folder, table
        self.files = {name: (template / name).read_bytes() for name in _COPIED}
        self.waiting = [folder / trial.run for trial in plan.trials]
        self.size = -(-len(self.waiting) // _ROUNDS)
        self.polls, self.rows = 0, 0
        self.seconds = self.status_seconds = self.command_seconds = 0.0

    def go_on(self, progress: StudyProgress) -> None:
        """End some trials. Called at each poll."""
        self.polls += 1
        with _timed() as taken:
            ending, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
            for run in ending:
                _append(run, event="start", host="node", job="1_0", step=0)
                for name, content in self.files.items():
                    (run / name).write_bytes(content)
                _append(run, event="end", job="1_0", step=1, code=0, error=None)
            ended = {self._task_of(run) for run in ending}
            lines = self.table.read_text().splitlines()
            kept = [line for line in lines if tuple(line.split("|")[:2]) not in ended]
            states = ["RUNNING" if number < _RUNNING else "PENDING" for number in range(len(kept))]
            table = (f"{line.rpartition('|')[0]}|{state}\n" for line, state in zip(kept, states, strict=True))
            self.table.write_text("".join(table))
            if not self.rows and len(self.waiting) <= self.size * _ROUNDS // 2:
                self._measure_status()
        self.seconds += taken[0]

    def _task_of(self, run: Path) -> tuple[str, str]:
        """Return the submission and the position of a trial, from the records of its study."""
        if not hasattr(self, "_tasks"):
            self._tasks: dict[str, tuple[str, str]] = {}
            for path in (self.folder / "jobs").glob("*.json"):
                runs = json.loads(path.read_text())["runs"]
                self._tasks |= {name: (path.stem, str(number)) for number, name in enumerate(runs)}
        return self._tasks[run.relative_to(self.folder).as_posix()]

    def _measure_status(self) -> None:
        from flatvq.engines.status import trial_states

        with _timed() as taken:
            self.rows = len(trial_states(self.folder))
        self.status_seconds = taken[0]
        command = [sys.executable, "-m", "flatvq", "status", str(self.folder)]
        with _timed() as taken:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.command_seconds = taken[0]


def _recipe(workspace: Path, trials: int) -> StudyRecipe:
    tree = {
        "data": {"source": "folder", "path": str(workspace / "images"), "crop": 16, "validation_share": 0.25},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 8, "code_dim": 2}]},
        "codebook": {"init": {"vectors_per_code": 1}},
        "train": {"steps": 1, "batch_size": 2, "precision": "float32", "compile": "never"},
        "evaluate": {"samples": 1},
        "arms": {"plain": {}, "other": {"codebook": {"replacement": {"every": 3}}}},
        "seeds": list(range(trials // 2)),
        "cluster": {"gpus_per_trial": 0, "max_running": _RUNNING, "poll_seconds": 0.001},
    }
    (workspace / "scale.yaml").write_text(json.dumps(tree))
    return load_recipe(str(workspace / "scale.yaml"))


def _programs(folder: Path) -> Path:
    folder.mkdir()
    for name, text in _PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    return folder


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds the processor seconds once the block has ended."""
    taken: list[float] = []
    start = sum(os.times()[:4])
    yield taken
    taken.append(sum(os.times()[:4]) - start)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    make_record("scale", __doc__, "trials", 10_000, "number of trials", measure)
