"""The state of a study's trials, and the time that the study still takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flatvq.model.capacity import capacity_of
from flatvq.study.plan import Trial

__all__ = ["Outcome", "StudyProgress"]


@dataclass
class Outcome:
    """The state of a trial."""

    trial: Trial
    status: str = "waiting"
    """`waiting`, `running`, `done` or `failed`; on a cluster that does not answer, `unknown`."""
    step: int = 0
    """Steps done."""
    psnr_db: float | None = None
    """The PSNR of the last validation, or of the final evaluation once the trial is done."""
    error: str | None = None
    """Why the trial failed."""
    seconds: float | None = None
    """Wall time of the training in this call; None if the trial was done before."""

    @property
    def steps(self) -> int:
        """The total number of steps."""
        return self.trial.recipe.train.steps


@dataclass
class StudyProgress:
    """The state of all trials of a study."""

    outcomes: list[Outcome]
    started: float = field(default_factory=time.monotonic)
    _before: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.work_done

    @property
    def work(self) -> float:
        """Multiply-adds of all trials."""
        return sum(_multiply_adds(outcome, outcome.steps) for outcome in self.outcomes)

    @property
    def work_done(self) -> float:
        """Multiply-adds done so far, including earlier calls."""
        return sum(_multiply_adds(outcome, outcome.step) for outcome in self.outcomes)

    @property
    def seconds_left(self) -> float | None:
        """The estimated remaining time at the average speed of this call; None before the first step.

        The average includes the start and the final evaluation of trials.
        """
        done = self.work_done - self._before
        elapsed = time.monotonic() - self.started
        return elapsed * (self.work - self.work_done) / done if done > 0 else None


def _multiply_adds(outcome: Outcome, steps: int) -> float:
    """Return the multiply-adds of a number of steps; of all steps if the trial has ended."""
    recipe = outcome.trial.recipe
    if outcome.status in ("done", "failed"):
        steps = recipe.train.steps
    capacity = capacity_of(recipe.model, recipe.data.crop)
    return float(
        steps * recipe.train.batch_size * (capacity.network_multiply_adds + capacity.search_multiply_adds / 3)
    )
