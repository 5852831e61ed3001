"""Runs the trials of a plan, several at a time, each in its own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flatvq.study.data import StudyData
from flatvq.study.devices import workers_for
from flatvq.study.outcome import Outcome, StudyProgress
from flatvq.study.plan import Plan
from flatvq.study.running import RunningTrial, outcome_of
from flatvq.study.scheduler import Scheduler, Slot

__all__ = ["run_trials"]


def run_trials(
    plan: Plan,
    folder: Path,
    data: StudyData,
    watch: Callable[[StudyProgress], None],
    look: int | None = None,
) -> list[Outcome]:
    """Run every trial up to a look that is not done. A trial that fails does not stop the others.

    Args:
        plan: the study.
        folder: the folder of the study.
        data: the images of the study. Each trial opens them again, and fails if they have changed by then.
        watch: called about twice a second with the progress of the trials.
        look: the number of seeds of the look; by default the last one.

    Returns:
        One outcome per trial up to the look, in the order of the plan, each `done` or `failed`.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM, after every running trial has written a checkpoint.
    """
    progress = StudyProgress([outcome_of(trial, folder) for trial in plan.trials_at(look)])
    waiting = [outcome for outcome in _start_order(progress.outcomes) if outcome.status != "done"]
    for outcome in waiting:  # `flatvq status` lists the folders
        (folder / outcome.trial.run).mkdir(parents=True, exist_ok=True)

    def start_next(slot: Slot) -> RunningTrial | None:
        if not waiting:
            return None
        outcome = waiting.pop(0)
        return RunningTrial(outcome, folder, data.identity_of(outcome.trial.recipe.arm), slot)

    workers = workers_for(plan.recipe, len(progress.outcomes))
    scheduler: Scheduler[RunningTrial] = Scheduler(workers, plan.recipe.train.device)
    scheduler.run(start_next, lambda: watch(progress))
    return progress.outcomes


def _start_order(outcomes: list[Outcome]) -> list[Outcome]:
    """Order trials by seed, and reverse the arms of every other seed, so that workers finish together.

    If the arms had the same order for each seed, one of two workers would get every naive arm, and the other
    every healthy arm, which takes longer.
    """
    seeds = dict.fromkeys(outcome.trial.recipe.seed for outcome in outcomes)
    groups = [[outcome for outcome in outcomes if outcome.trial.recipe.seed == seed] for seed in seeds]
    return [outcome for turn, group in enumerate(groups) for outcome in group[:: -1 if turn % 2 else 1]]
