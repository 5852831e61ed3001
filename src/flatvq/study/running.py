"""A trial in its process, and the state of a trial as its run folder records it."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.files import write_json
from flatvq.records import parse_row, read_metrics
from flatvq.study import worker
from flatvq.study.outcome import Outcome
from flatvq.study.plan import Trial
from flatvq.study.scheduler import Slot
from flatvq.train.identity import Identity, assign
from flatvq.train.trial import is_finished

__all__ = ["RunningTrial", "outcome_of", "prepare"]

# The end of records.jsonl that is read at each poll.
_TAIL_BYTES = 8192


class RunningTrial:
    """A running trial and its process. It is a `Job` of the scheduler.

    Args:
        outcome: the trial. `finished` keeps it up to date.
        folder: the folder of the study.
        identity: the identity of the run. The trial fails if the images that it opens have another one.
        slot: the share of the machine that it may use.
    """

    def __init__(self, outcome: Outcome, folder: Path, identity: Identity, slot: Slot) -> None:
        self.outcome, self.gpu = outcome, slot.gpu
        self.run = folder / outcome.trial.run
        prepare(outcome.trial, self.run, identity)
        outcome.status = "running"
        self.started = time.monotonic()
        self.process, self._error_pipe = worker.start(self.run, slot.threads, slot.gpu)

    def finished(self) -> bool:
        """Update the outcome from the records; return True if the process has ended."""
        # The exit code first: the records of a process that has ended are complete.
        code = self.process.exitcode
        _read_progress(self.outcome, self.run)
        if code is None:
            return False
        self.outcome.seconds = time.monotonic() - self.started
        if code == 0 and is_finished(self.run):
            _set_done(self.outcome, self.run)
        else:
            self.outcome.status = "failed"
            self.outcome.error = worker.received_error(self._error_pipe) or _describe_exit(code, self.run)
        return True


def prepare(trial: Trial, run: Path, identity: Identity) -> None:
    """Write the recipe and the identity of a trial into its folder, unless they are there.

    Args:
        trial: a trial of the plan.
        run: its folder; created if it does not exist.
        identity: the identity of the run.
    """
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "recipe.json").exists():
        write_json(run / "recipe.json", trial.recipe.model_dump(mode="json"))
    assign(run, identity)


def outcome_of(trial: Trial, folder: Path) -> Outcome:
    """Read the state of a trial from its records.

    Args:
        trial: a trial of the plan.
        folder: the folder of the study.

    Returns:
        The outcome: `done`, or `waiting` with the step that an interrupted run reached.
    """
    outcome = Outcome(trial)
    run = folder / trial.run
    if is_finished(run):
        _set_done(outcome, run)
    else:
        _read_progress(outcome, run)
    return outcome


def _describe_exit(code: int, run: Path) -> str:
    """Return the error of a process that ended without sending one."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}; see {run / 'log.txt'}"
    return f"ended with exit code {code}; see {run / 'log.txt'}"


def _set_done(outcome: Outcome, run: Path) -> None:
    outcome.status, outcome.step = "done", outcome.steps
    outcome.psnr_db = read_metrics(run).psnr_db


def _read_progress(outcome: Outcome, run: Path) -> None:
    """Read the step and the last validation PSNR from the end of the records."""
    path = run / "records.jsonl"
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    for line in lines[1:]:
        with suppress(FlatvqError):  # the trial may be writing the last line
            row = parse_row(line)
            outcome.step = row["step"]
            if row["kind"] == "validation":
                outcome.psnr_db = row.get("psnr_db")
