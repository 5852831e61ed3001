"""Trains the trials of a study as jobs of a cluster. The jobs continue when the study's process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flatvq.engines.attempts import attempts_of
from flatvq.engines.jobs import Commands, Jobs, jobs_of, require_engine
from flatvq.engines.waiting import Watcher
from flatvq.study.data import StudyData
from flatvq.study.outcome import Outcome, StudyProgress
from flatvq.study.plan import Plan
from flatvq.study.running import outcome_of, prepare
from flatvq.study.scheduler import signals_raise_stopped

__all__ = ["ClusterTrials", "cancel_jobs"]

_WATCH_SECONDS = 0.5


class ClusterTrials:
    """Trains trials on a cluster. Call it in place of `run_trials`.

    Args:
        kind: the name of the engine.
        notice: called with one line when the cluster stops answering, and when it answers again.

    Raises:
        FlatvqError: if there is no such engine.
    """

    def __init__(self, kind: str, notice: Callable[[str], None] = lambda text: None) -> None:
        require_engine(kind)
        self.kind, self.notice = kind, notice

    def submit(self, plan: Plan, folder: Path, data: StudyData, look: int | None = None) -> tuple[int, int]:
        """Submit the trials up to a look that are not done and have no job, and return.

        A job that has ended, or that the cluster does not know any more, does not count.

        Returns:
            The number of submitted trials, and the number of trials that already had a job.

        Raises:
            FlatvqError: if the cluster refuses them, or does not answer.
            BusyError: if another process submits jobs of this study, or waits for them.
        """
        with jobs_of(self.kind, folder, plan.recipe.cluster) as jobs:
            jobs.settle_ended()
            missing = [outcome for outcome in _outcomes(plan, folder, look) if outcome.status != "done"]
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

        Jobs of earlier calls are found again. If the jobs of a trial ended without a result, the trial is
        submitted again; if `why_not_again` forbids this, it has failed.

        Raises:
            StudyStopped: on Ctrl-C or SIGTERM. The jobs continue.
            FlatvqError: if the cluster refuses a job.
            NoAnswerError: if the cluster has not answered for longer than `cluster.answer_seconds`.
            BusyError: see `submit`.
        """
        with signals_raise_stopped() as raise_again, jobs_of(self.kind, folder, plan.recipe.cluster) as jobs:

            def watch_or_stop(progress: StudyProgress) -> None:
                raise_again()
                watch(progress)

            progress = StudyProgress(_outcomes(plan, folder, look))
            missing = [outcome for outcome in progress.outcomes if outcome.status != "done"]
            new = [outcome for outcome in missing if outcome.trial.run not in jobs]
            _submit(jobs, new, plan, folder, data)
            # Trials that are done may have jobs that ended while no program waited for them.
            with_jobs = [outcome for outcome in progress.outcomes if outcome.trial.run in jobs]
            _wait(jobs, plan, folder, progress, with_jobs, watch_or_stop, self.notice)
        return progress.outcomes


def cancel_jobs(kind: str, plan: Plan, folder: Path) -> int:
    """End all jobs of a study.

    Args:
        kind: the name of the engine.
        plan: the study.
        folder: the folder of the study.

    Returns:
        The number of trials that had a job.
    """
    with jobs_of(kind, folder, plan.recipe.cluster) as jobs:
        return jobs.cancel()


def _wait(
    jobs: Jobs,
    plan: Plan,
    folder: Path,
    progress: StudyProgress,
    with_jobs: list[Outcome],
    watch: Callable[[StudyProgress], None],
    notice: Callable[[str], None],
) -> None:
    """Wait until all trials with jobs are done or have failed."""
    outcomes = {outcome.trial.run: outcome for outcome in with_jobs}

    def is_done(run: Path) -> bool:
        _update(outcomes[run], folder)
        return outcomes[run].status == "done"

    watcher = Watcher(jobs, plan.name, _commands(folder, outcomes), is_done, notice)
    seconds = plan.recipe.cluster.poll_seconds
    polled = -seconds
    while outcomes:
        if time.monotonic() - polled >= seconds:
            polled = time.monotonic()
            for run, status in watcher.poll(outcomes).items():
                outcome = outcomes[run]
                if status.state == "running":
                    _update(outcome, folder)
                outcome.status, outcome.error = status.state, status.error
                if status.state in ("done", "failed"):
                    outcome.seconds = attempts_of(folder / run).seconds
                    del outcomes[run]
        watch(progress)
        if outcomes:
            time.sleep(_WATCH_SECONDS)


def _outcomes(plan: Plan, folder: Path, look: int | None) -> list[Outcome]:
    return [outcome_of(trial, folder) for trial in plan.trials_at(look)]


def _submit(jobs: Jobs, outcomes: list[Outcome], plan: Plan, folder: Path, data: StudyData) -> None:
    for outcome in outcomes:
        trial = outcome.trial
        prepare(trial, folder / trial.run, data.identity_of(trial.recipe.arm))
    jobs.submit(_commands(folder, [outcome.trial.run for outcome in outcomes]), plan.name)


def _commands(folder: Path, runs: Iterable[Path]) -> Commands:
    root = folder.resolve()
    return {run: ("flatvq", "train", str(root / run)) for run in runs}


def _update(outcome: Outcome, folder: Path) -> None:
    read = outcome_of(outcome.trial, folder)
    outcome.status, outcome.step, outcome.psnr_db = read.status, read.step, read.psnr_db
