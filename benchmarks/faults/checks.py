"""What may be wrong in the folder of a study after a fault: something lost, done twice, or different."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.crashes.folders import damaged_files, results
from flatvq.train.lease import newest_owner
from flatvq.unvalidated import json_object

__all__ = ["attempts_of_done", "differences", "repeated", "step_of", "steps_lost"]


def step_of(run: Path) -> int:
    """Return the step of the newest checkpoint of a trial; 0 if there is none."""
    names = [path.name for path in run.glob("checkpoints/step-*")]
    return max((int(name[5:]) for name in names), default=0)


def attempts_of_done(runs: list[Path]) -> dict[Path, int]:
    """Return the number of attempts of each trial that is done."""
    return {run: newest_owner(run)[0] for run in runs if _status(run) == "done"}


def repeated(done: Mapping[Path, int]) -> list[str]:
    """Name the trials that were started again after they were done."""
    return [
        f"{run.name} was started again after it was done" for run in done if newest_owner(run)[0] > done[run]
    ]


def steps_lost(run: Path, checkpoint_every: int) -> list[str]:
    """Say where a trial resumed before its newest checkpoint, by its records.

    A trial records a step at each checkpoint, before it writes the checkpoint.
    """
    wrong, trained = [], 0
    for row in map(json_object, (run / "records.jsonl").read_bytes().splitlines()):
        step = int(row.get("step", 0))
        if row.get("kind") == "start" and step < trained - checkpoint_every:
            wrong.append(f"{run.name} resumed at step {step} after step {trained}")
        trained = max(trained, step) if row.get("kind") == "train" else trained
    return wrong


def differences(undisturbed: Mapping[str, Any], folder: Path) -> list[str]:
    """Name the files that are damaged, and those that differ from an undisturbed study."""
    if damaged := damaged_files(folder):
        return [f"{name} is damaged: {error}" for name, error in damaged.items()]
    disturbed = results(folder, times=False)
    names = sorted(undisturbed.keys() | disturbed.keys())
    return [f"{name} differs" for name in names if undisturbed.get(name) != disturbed.get(name)]


def _status(run: Path) -> object:
    try:
        return json.loads((run / "status.json").read_text(encoding="utf-8")).get("status")
    except OSError:
        return None
