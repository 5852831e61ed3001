"""The states of the trials of a study, wherever they run, from their folders alone.

It reads a few small files per trial without validation, so that ten thousand trials take about a second.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from flatvq.engines.attempts import Attempts, attempts_of, why_not_again
from flatvq.engines.silence import silence_of
from flatvq.errors import FlatvqError
from flatvq.train.lease import newest_owner
from flatvq.train.owner import Owner, has_ended
from flatvq.unvalidated import count_in, json_object, number_in, text_in

__all__ = ["TrialState", "trial_states"]

_TAIL_BYTES = 8192
_SILENT_SECONDS = 180.0
_NO_LIMIT = 1_000_000  # the folder does not say how many failures a trial may have


@dataclass(frozen=True)
class TrialState:
    """The state of a trial."""

    arm: str
    seed: int
    state: str
    """`waiting`, `queued`, `unknown` (queued on a cluster that does not answer), `running`, `silent` (no
    heartbeat for three minutes), `stopped`, `killed`, `failed` or `done`."""
    run: str
    """The folder of the run, relative to the folder of the study."""
    host: str | None = None
    """Where it runs, or ran last."""
    step: int = 0
    steps: int | None = None
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    """Of the training, at its latest speed."""
    attempts: int = 0
    error: str | None = None
    """Why it failed, or why its last attempt ended."""


def trial_states(study: Path) -> list[TrialState]:
    """Read the states of all trials that have a folder: those up to the look that runs or has run.

    Args:
        study: the folder of the study.

    Returns:
        The states, ordered by arm and seed.

    Raises:
        FlatvqError: if the folder holds no trials.
    """
    root, now = study / "runs", time.time()
    queued = "queued" if silence_of(study) is None else "unknown"
    states = []
    for arm in _folders(root):
        for name in _folders(root / arm):
            prefix, _, rest = name.partition("-")
            seed = rest.partition("-")[0]
            if prefix == "seed" and seed.isdecimal():
                states.append(_state_of(root / arm / name, arm, int(seed), f"runs/{arm}/{name}", now, queued))
    if not states:
        raise FlatvqError(f"'{study}' holds no trials", "give the folder of a study that has started")
    return sorted(states, key=lambda state: (state.arm, state.seed, state.run))


def _state_of(run: Path, arm: str, seed: int, relative: str, now: float, queued: str) -> TrialState:
    status = _tree(run / "status.json")
    leases, owner = _lease(run)
    written = status.get("status")
    state = written if written in ("running", "stopped", "failed", "done") else "waiting"
    host = owner.host if owner else None
    step, steps = count_in(status, "step") or 0, count_in(status, "steps")
    if state == "done":
        return TrialState(arm, seed, state, relative, host, step, steps, attempts=leases)
    attempts = _attempts(run)
    last = attempts.latest[-1] if attempts.latest else None
    if owner is not None and owner.held:
        state = _state_of_owner(run, owner, leases, now)
    elif state == "running":
        state = "killed"
    if state not in ("running", "silent") and attempts.submitted:
        if not why_not_again(attempts.latest, _NO_LIMIT):
            state = queued
        elif state == "waiting":  # each attempt ended before the training began
            state = "failed"
    step, speed = _progress(run, step) if steps else (step, None)
    error = text_in(status, "error") or (last.error if last else None)
    return TrialState(
        arm,
        seed,
        state,
        relative,
        host,
        step,
        steps,
        seconds_per_step=speed,
        seconds_left=(steps - step) * speed if speed and steps and state == "running" else None,
        attempts=max(leases, attempts.total),
        error=error,
    )


def _lease(run: Path) -> tuple[int, Owner | None]:
    """Read who owns a trial; nobody if the folder of its lease cannot be read."""
    with suppress(OSError):
        return newest_owner(run)
    return 0, None


def _attempts(run: Path) -> Attempts:
    """Read the attempts of a trial; none if their file cannot be read."""
    with suppress(OSError):
        return attempts_of(run)
    return Attempts(0, (), 0.0, submitted=False)


def _state_of_owner(run: Path, owner: Owner, attempt: int, now: float) -> str:
    if has_ended(owner):
        return "killed"
    with suppress(OSError):
        # Clocks of hosts may differ by seconds or minutes. This is for people to read; no process acts on it.
        written = (run / ".lease" / f"{attempt:08d}" / "owner.json").stat().st_mtime
        return "silent" if now - written > _SILENT_SECONDS else "running"
    return "running"


def _progress(run: Path, step: int) -> tuple[int, float | None]:
    """Read the newest step, and the seconds per step, from the end of the records."""
    with suppress(OSError):
        with (run / "records.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            rows = [json_object(line) for line in file.read().split(b"\n")]
        steps = [row_step for row in rows if (row_step := count_in(row, "step")) is not None]
        speeds = [speed for row in rows if (speed := number_in(row, "images_per_second") or 0.0) > 0]
        return steps[-1] if steps else step, _seconds_per_step(run, speeds[-1]) if speeds else None
    return step, None


def _seconds_per_step(run: Path, images_per_second: float) -> float | None:
    train = _tree(run / "recipe.json").get("train")
    size = count_in(train, "batch_size") if isinstance(train, dict) else None
    seconds = size / images_per_second if size else None
    return seconds if seconds is not None and isfinite(seconds) else None


def _tree(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file is missing or damaged."""
    with suppress(OSError):
        return json_object(path.read_bytes())
    return {}


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that are not hidden; none if it cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
    return []
