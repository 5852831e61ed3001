"""Trains the trials of a study as jobs of a cluster. The cluster goes on when the study's process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flatvq.engines.attempts import attempts_of, why_not_again
from flatvq.engines.engine import ENGINES, State
from flatvq.errors import FlatvqError, nearest
from flatvq.study.data import StudyData
from flatvq.study.jobs import Jobs
from flatvq.study.outcome import Outcome, StudyProgress
from flatvq.study.plan import Plan
from flatvq.study.running import outcome_of, prepare
from flatvq.study.scheduler import signals_raise_stopped
from flatvq.train.lease import leased

__all__ = ["ClusterTrials", "cancel_jobs"]

_WATCH_SECONDS = 0.5
_LEASE_SECONDS = 1.0


class ClusterTrials:
    """Trains trials on a cluster. Call it in place of `run_trials`.

    Args:
        kind: the name of the engine.

    Raises:
        FlatvqError: if there is no such engine.
    """

    def __init__(self, kind: str) -> None:
        if kind not in ENGINES:
            raise FlatvqError(f"no engine is named {kind!r}", nearest(kind, ["local", *ENGINES]))
        self.kind = kind

    def submit(self, plan: Plan, folder: Path, data: StudyData, look: int | None = None) -> tuple[int, int]:
        """Submit the trials up to a look that are not done and have no job, and return.

        Returns:
            The number of trials that were submitted, and of those that had a job before.

        Raises:
            FlatvqError: if the cluster refuses them.
            BusyError: if another process submits jobs of this study, or waits for them.
        """
        with self._jobs(plan, folder) as jobs:
            missing = [one for one in _outcomes(plan, folder, look) if one.status != "done"]
            new = [outcome for outcome in missing if outcome.trial.run not in jobs]
            _submit(jobs, new, plan, folder, data)
            return len(new), len(missing) - len(new)

    def __call__(
        self,
        plan: Plan,
        folder: Path,
        data: StudyData,
        watch: Callable[[StudyProgress], None],
        look: int | None = None,
    ) -> list[Outcome]:
        """Train the trials up to a look, as `run_trials` does.

        Jobs that an earlier call submitted are found again. A trial whose jobs ended without a result is
        submitted again as far as `why_not_again` permits, and has failed otherwise.

        Raises:
            StudyStopped: on Ctrl-C or SIGTERM. The jobs go on.
            FlatvqError: if the cluster refuses a job.
            BusyError: as `submit`.
        """
        with signals_raise_stopped(), self._jobs(plan, folder) as jobs:
            progress = StudyProgress(_outcomes(plan, folder, look))
            missing = [outcome for outcome in progress.outcomes if outcome.status != "done"]
            new = [outcome for outcome in missing if outcome.trial.run not in jobs]
            _submit(jobs, new, plan, folder, data)
            _Watcher(jobs, plan, folder).wait(progress, missing, watch)
        return progress.outcomes

    @contextmanager
    def _jobs(self, plan: Plan, folder: Path) -> Iterator[Jobs]:
        cluster = plan.recipe.cluster
        engine = ENGINES[self.kind](cluster)
        place = folder / "jobs"
        place.mkdir(parents=True, exist_ok=True)
        with leased(place, _LEASE_SECONDS, "waiting for jobs"):
            yield Jobs(engine, self.kind, folder, cluster)


def cancel_jobs(kind: str, plan: Plan, folder: Path) -> int:
    """End all jobs of a study.

    Args:
        kind: the name of the engine.
        plan: the study.
        folder: the folder of the study.

    Returns:
        The number of trials that had a job.
    """
    with ClusterTrials(kind)._jobs(plan, folder) as jobs:
        return jobs.cancel()


class _Watcher:
    """Waits for jobs, and submits them again."""

    def __init__(self, jobs: Jobs, plan: Plan, folder: Path) -> None:
        self.jobs, self.plan, self.folder = jobs, plan, folder
        self._gone: set[Path] = set()  # the job had ended at the last poll
        self._tried: dict[Path, int] = {}  # attempts when the trial was last submitted again

    def wait(
        self, progress: StudyProgress, missing: list[Outcome], watch: Callable[[StudyProgress], None]
    ) -> None:
        """Wait until all trials are done or have failed."""
        polled = -self.plan.recipe.cluster.poll_seconds
        while missing:
            if time.monotonic() - polled >= self.plan.recipe.cluster.poll_seconds:
                polled = time.monotonic()
                if (states := self.jobs.states()) is not None:
                    missing = self._polled(missing, states)
            watch(progress)
            if missing:
                time.sleep(_WATCH_SECONDS)

    def _polled(self, missing: list[Outcome], states: dict[str, State]) -> list[Outcome]:
        """Update outcomes, and return those that have not ended."""
        again = []
        for outcome in missing:
            run = outcome.trial.run
            state = states[run.as_posix()]
            if state == "waiting":
                outcome.status = "waiting"
                continue
            _update(outcome, outcome_of(outcome.trial, self.folder))
            if state == "running":  # even if it is done: its last attempt may not have recorded its end
                outcome.status = "running"
            elif outcome.status == "done":
                outcome.seconds = attempts_of(self.folder / run).seconds
            elif run not in self._gone:
                # The files of the last attempt may reach this host after the end of its job.
                self._gone.add(run)
                continue
            elif self._failed(outcome, state):
                outcome.seconds = attempts_of(self.folder / run).seconds
            else:
                again.append(run)
            self._gone.discard(run)
            if outcome.status in ("done", "failed"):
                self.jobs.settle(run)
        for run in again:
            self.jobs.settle(run)
        if again:
            self.jobs.submit(again, self.plan.name, again=True)
        return [outcome for outcome in missing if outcome.status not in ("done", "failed")]

    def _failed(self, outcome: Outcome, state: State) -> bool:
        """Decide whether a trial has failed whose job ended without a result."""
        run = outcome.trial.run
        latest = attempts_of(self.folder / run).latest
        log = self.jobs.log_of(run)
        if state == "cancelled":
            reason: str | None = "its job was cancelled"
        elif len(latest) <= self._tried.get(run, 0):
            reason = f"its job ended before the trial started; see {log}"
        else:
            reason = why_not_again(latest, self.plan.recipe.cluster.attempts)
        if reason is None:
            self._tried[run] = len(latest)
            outcome.status = "waiting"
            return False
        outcome.status, outcome.error = "failed", reason
        return True


def _outcomes(plan: Plan, folder: Path, look: int | None) -> list[Outcome]:
    return [outcome_of(trial, folder) for trial in plan.trials_at(look)]


def _submit(jobs: Jobs, outcomes: list[Outcome], plan: Plan, folder: Path, data: StudyData) -> None:
    for outcome in outcomes:
        trial = outcome.trial
        prepare(trial, folder / trial.run, data.identity_of(trial.recipe.arm))
    if outcomes:
        jobs.submit([outcome.trial.run for outcome in outcomes], plan.name)


def _update(outcome: Outcome, read: Outcome) -> None:
    outcome.status, outcome.step, outcome.psnr_db = read.status, read.step, read.psnr_db
