"""A study trains up to the next look, and stops at the first one that settles the primary comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flatvq.errors import FlatvqError
from flatvq.records import Study, load_study
from flatvq.study.data import StudyData
from flatvq.study.devices import workers_for
from flatvq.study.outcome import Outcome, StudyProgress
from flatvq.study.plan import Plan
from flatvq.study.results import write_study
from flatvq.study.runner import run_trials

__all__ = ["LookResult", "TrainTrials", "look_to_run", "run_look", "seconds_to"]

TrainTrials = Callable[[Plan, Path, StudyData, Callable[[StudyProgress], None], int | None], list[Outcome]]
"""What trains the trials of a plan up to a look, such as `run_trials`."""


@dataclass(frozen=True)
class LookResult:
    """A finished look."""

    study: Study
    """The content of `study.json`."""
    outcomes: list[Outcome]
    """All trials so far."""

    @property
    def failed(self) -> bool:
        """Whether a trial failed."""
        return any(outcome.status == "failed" for outcome in self.outcomes)


def look_to_run(plan: Plan, folder: Path, *, further: bool = False) -> int:
    """Return the look that a study has to run now.

    Args:
        plan: the study.
        folder: the folder of the study.
        further: go on to the next look even if the primary comparison is settled. Repeated intervals allow
            this: their error holds over all looks, for any reason to continue.

    Returns:
        The number of seeds of the next look. If the last look is settled, has failed trials, or was the final
        look: its own number of seeds.
    """
    study = None
    with suppress(FlatvqError):  # no study.json yet, or a damaged one: its trials give the looks again
        study = load_study(folder)
    looks = plan.recipe.looks
    if study is None or not study.looks or study.looks[-1].seeds not in looks:
        return looks[0]
    last = study.looks[-1].seeds
    if any(not trial.done for trial in study.trials):
        return last
    following = next((look for look in looks if look > last), last)
    return following if further or study.next_look else last


def run_look(
    plan: Plan,
    look: int,
    folder: Path,
    data: StudyData,
    watch: Callable[[StudyProgress], None],
    train: TrainTrials | None = None,
) -> LookResult:
    """Train the missing trials up to a look, compare the arms, and write `study.json`.

    Args:
        plan: the study.
        look: the number of seeds.
        folder: the folder of the study.
        data: the images of the study.
        watch: called about twice a second with the progress of the trials.
        train: trains the trials; None for `run_trials`, on this machine.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM, after every running trial has written a checkpoint.
    """
    start = time.monotonic()
    outcomes = (train or run_trials)(plan, folder, data, watch, look)
    trained = any(outcome.seconds is not None for outcome in outcomes)
    seconds = time.monotonic() - start if trained else None
    return LookResult(write_study(plan, outcomes, data, folder, look=look, seconds=seconds), outcomes)


def seconds_to(plan: Plan, study: Study, look: int) -> float | None:
    """Estimate the wall time up to a look from the trials that are done.

    Args:
        plan: the study.
        study: its record.
        look: the number of seeds.

    Returns:
        Seconds; None if no trial of an arm recorded its time.
    """
    done = {(trial.arm, trial.seed) for trial in study.trials if trial.done}
    missing = [
        recipe.arm
        for recipe in (trial.recipe for trial in plan.trials_at(look))
        if (recipe.arm, recipe.seed) not in done
    ]
    times = {
        arm: [trial.seconds for trial in study.trials if trial.arm == arm and trial.seconds is not None]
        for arm in set(missing)
    }
    if not all(times.values()):
        return None
    return sum(fmean(times[arm]) for arm in missing) / workers_for(plan.recipe, max(1, len(missing)))
