"""Running the trials of a plan, several at a time, each in its own process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.files import write_json
from flatvq.model.capacity import capacity_of
from flatvq.processes import cores
from flatvq.records import parse_row, read_metrics
from flatvq.study import worker
from flatvq.study.data import StudyData
from flatvq.study.devices import gpus_for, least_busy, workers_for
from flatvq.study.plan import Plan, Trial
from flatvq.train.identity import Identity, assign
from flatvq.train.trial import is_finished

__all__ = ["Outcome", "RunningTrial", "StudyProgress", "StudyStopped", "run_trials", "standing"]

_POLL_SECONDS = 0.5


class StudyStopped(Exception):  # noqa: N818 (a request that was followed, not an error)
    """Ctrl-C or SIGTERM: the trials wrote checkpoints; the same command goes on from them."""


@dataclass
class Outcome:
    """How a trial stands."""

    trial: Trial
    status: str = "waiting"
    """`waiting`, `running`, `done` or `failed`."""
    step: int = 0
    psnr_db: float | None = None
    """The last look at the held-out crops, or the final value."""
    error: str | None = None
    seconds: float | None = None
    """Wall time of the training in this call; None if it was done before."""

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.trial.recipe.train.steps


@dataclass
class StudyProgress:
    """All trials of a study, as they stand."""

    outcomes: list[Outcome]
    started: float = field(default_factory=time.monotonic)
    _before: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.work_done

    @property
    def work(self) -> float:
        """Multiply-adds of all trials."""
        return sum(_work(outcome, outcome.steps) for outcome in self.outcomes)

    @property
    def work_done(self) -> float:
        """Multiply-adds done, those of earlier calls included."""
        return sum(_work(outcome, outcome.step) for outcome in self.outcomes)

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far, start-up and evaluation included; None before there is a pace."""
        done = self.work_done - self._before
        elapsed = time.monotonic() - self.started
        return elapsed * (self.work - self.work_done) / done if done > 0 else None


def _work(outcome: Outcome, steps: int) -> float:
    recipe = outcome.trial.recipe
    if outcome.status in ("done", "failed"):
        steps = recipe.train.steps
    capacity = capacity_of(recipe.model, recipe.data.crop)
    return float(
        steps * recipe.train.batch_size * (capacity.multiply_adds + capacity.search_multiply_adds / 3)
    )


def run_trials(
    plan: Plan, folder: Path, data: StudyData, watch: Callable[[StudyProgress], None]
) -> list[Outcome]:
    """Run every trial that is not done; a trial that fails does not stop the others.

    Args:
        plan: the study.
        folder: its folder.
        data: its images. Each trial opens them again, and fails if they have changed by then.
        watch: called about twice a second with how things stand.

    Returns:
        One outcome per trial of the plan, in its order, `done` or `failed`.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM, after every running trial has written a checkpoint.
    """
    progress = StudyProgress([standing(trial, folder) for trial in plan.trials])
    waiting = [outcome for outcome in _in_turn(progress.outcomes) if outcome.status != "done"]
    workers = workers_for(plan.recipe, len(plan.trials))
    gpus = gpus_for(plan.recipe.train.device)
    threads = max(1, cores() // workers)
    running: list[RunningTrial] = []
    before = {number: signal.signal(number, _raise_stopped) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                gpu = least_busy(gpus, [trial.gpu for trial in running])
                outcome = waiting.pop(0)
                identity = data.identity_of(outcome.trial.recipe.arm)
                running.append(RunningTrial(outcome, folder, identity, threads, gpu))
            wait([trial.process.sentinel for trial in running], _POLL_SECONDS)
            running = [trial for trial in running if not trial.finished()]
            watch(progress)
    except BaseException as error:
        # Whatever ends the study, such as a full disk: the trials write checkpoints.
        for trial in running:
            trial.process.terminate()
        for trial in running:
            trial.process.join()
        if isinstance(error, KeyboardInterrupt | StudyStopped):
            raise StudyStopped from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return progress.outcomes


def _in_turn(outcomes: list[Outcome]) -> list[Outcome]:
    """Order trials by seed, and turn the arms round at every other seed, so that workers finish together.

    In the same order each time, one of two workers would get every naive arm, and the other every healthy
    one, which takes longer.
    """
    seeds = dict.fromkeys(outcome.trial.recipe.seed for outcome in outcomes)
    groups = [[outcome for outcome in outcomes if outcome.trial.recipe.seed == seed] for seed in seeds]
    return [outcome for turn, group in enumerate(groups) for outcome in group[:: -1 if turn % 2 else 1]]


def _raise_stopped(number: int, frame: object) -> None:
    raise StudyStopped


class RunningTrial:
    """A running trial and its process.

    Args:
        outcome: the trial; kept up to date.
        folder: the study's.
        identity: that it must have; the trial fails if the images are others when it opens them.
        threads: that it may compute with.
        gpu: the only one that it sees, as CUDA_VISIBLE_DEVICES names it.
    """

    def __init__(
        self, outcome: Outcome, folder: Path, identity: Identity, threads: int, gpu: str | None
    ) -> None:
        self.outcome, self.gpu = outcome, gpu
        self.run = folder / outcome.trial.run
        self.run.mkdir(parents=True, exist_ok=True)
        if not (self.run / "recipe.json").exists():
            write_json(self.run / "recipe.json", outcome.trial.recipe.model_dump(mode="json"))
        assign(self.run, identity)
        outcome.status = "running"
        self.started = time.monotonic()
        self.process, self._cause = worker.start(self.run, threads, gpu)

    def finished(self) -> bool:
        """Look at records and process; bring the outcome up to date."""
        code = self.process.exitcode
        _follow(self.outcome, self.run)
        if code is None:
            return False
        self.outcome.seconds = time.monotonic() - self.started
        if code == 0 and is_finished(self.run):
            _complete(self.outcome, self.run)
        else:
            self.outcome.status = "failed"
            self.outcome.error = worker.received(self._cause) or _ending(code, self.run)
        return True


def _ending(code: int, run: Path) -> str:
    """Say how a process ended that left no word of its own."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}; see {run / 'log.txt'}"
    return f"ended with exit code {code}; see {run / 'log.txt'}"


def standing(trial: Trial, folder: Path) -> Outcome:
    """Tell from the records in a study's folder how a trial stands."""
    outcome = Outcome(trial)
    run = folder / trial.run
    if is_finished(run):
        _complete(outcome, run)
    else:
        _follow(outcome, run)
    return outcome


def _complete(outcome: Outcome, run: Path) -> None:
    outcome.status, outcome.step = "done", outcome.steps
    outcome.psnr_db = read_metrics(run).psnr_db


def _follow(outcome: Outcome, run: Path) -> None:
    """Read step and PSNR off the end of the records."""
    path = run / "records.jsonl"
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().split(b"\n")
    for line in lines[1:]:
        with suppress(FlatvqError):  # the last line may not be whole yet
            row = parse_row(line)
            outcome.step = row["step"]
            if row["kind"] == "validation":
                outcome.psnr_db = row.get("psnr_db")
