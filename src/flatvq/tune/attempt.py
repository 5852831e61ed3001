"""A running trial of a search: reports validations to Optuna, prunes the trial, and records how it ended."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
from optuna.trial import Trial as Suggestion
from optuna.trial import TrialState

from flatvq.errors import StorageError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import TrialRecipe
from flatvq.records import Validation, check_record, read_metrics, read_rows
from flatvq.study.collapse import collapse_of, has_collapsed
from flatvq.study.running import RunningTrial
from flatvq.train.lease import BusyError
from flatvq.tune.settings import WARM_UP

__all__ = ["RunningAttempt"]

# A level may still recover during a trial, so it is pruned at half of the thresholds of the final evaluation.
_LENIENCY = 2.0


class RunningAttempt:
    """A running trial of a search. It is a `Job` of the scheduler.

    Args:
        study: the search in Optuna.
        suggestion: the trial in Optuna.
        running: the process that trains it.
        confirm: called before anything is reported. It raises an error if this process no longer owns the
            trial.
    """

    def __init__(
        self,
        study: optuna.Study,
        suggestion: Suggestion,
        running: RunningTrial,
        confirm: Callable[[], object] = lambda: None,
    ) -> None:
        self.study, self.suggestion, self.running, self.confirm = study, suggestion, running, confirm
        self._judged = 0
        """The number of validations that were considered for pruning."""
        stored = suggestion.study.get_trials(deepcopy=False)[suggestion.number]
        self._reported = set(stored.intermediate_values)
        """The steps whose validations are in the storage."""

    @property
    def process(self) -> BaseProcess:
        """The process of the trial."""
        return self.running.process

    @property
    def gpu(self) -> str | None:
        """The GPU of the trial."""
        return self.running.gpu

    def finished(self) -> bool:
        """Report new validations, prune the trial if they are too low, and return True if it has ended.

        Raises:
            StorageError: if the disk of the trial is full or broken. The trial stays unfinished in the
                storage, and the same command resumes it.
            BusyError: if another process trains it, or it belongs to another process.
        """
        ended = self.running.finished()
        self.confirm()
        reason = self._prune_reason()
        if reason is not None and not ended:
            self.process.terminate()
            self.process.join()
            self.suggestion.set_user_attr("reason", reason)
            self.study.tell(self.suggestion, state=TrialState.PRUNED)
            return True
        if not ended:
            return False
        outcome = self.running.outcome
        if self.process.exitcode == StorageError.exit_code:
            raise StorageError(f"trial {self.suggestion.number} stopped", str(outcome.error))
        if self.process.exitcode == BusyError.exit_code:
            what = f"another process trains trial {self.suggestion.number} ({outcome.error})"
            raise BusyError(what, "wait for it, or stop it")
        if outcome.status == "done" and outcome.psnr_db is not None:
            self._tell_result(outcome.psnr_db)
        else:
            self.suggestion.set_user_attr("reason", outcome.error)
            self.study.tell(self.suggestion, state=TrialState.FAIL)
        return True

    def _tell_result(self, psnr_db: float) -> None:
        """Report the result to Optuna. A trial that ended with a collapsed level counts as pruned."""
        metrics = read_metrics(self.running.run)
        kinds = [collapse_of(level, metrics.images) for level in metrics.levels]
        collapsed = next((number for number, kind in enumerate(kinds) if kind), None)
        if collapsed is None:
            self.study.tell(self.suggestion, psnr_db)
        else:
            self.suggestion.set_user_attr("reason", f"collapsed: level {collapsed} in the final evaluation")
            self.study.tell(self.suggestion, state=TrialState.PRUNED)

    def _prune_reason(self) -> str | None:
        """Report the validations since the last call; return why to prune the trial, None to continue it."""
        validations = _read_validations(self.running.run / "records.jsonl")
        new, self._judged = validations[self._judged :], len(validations)
        for validation in new:
            if validation.step not in self._reported:
                self.suggestion.report(validation.psnr_db, validation.step)
        for validation in new:
            level = collapsed_level(self.running.outcome.trial.recipe, validation)
            if level is not None:
                return f"collapsed: level {level} at step {validation.step}"
        return "below the median" if validations and self.suggestion.should_prune() else None


def collapsed_level(recipe: TrialRecipe, validation: Validation) -> int | None:
    """Return the first level whose codebook has collapsed.

    Args:
        recipe: the recipe of the trial.
        validation: a validation of the trial.

    Returns:
        The number of the level; None if no level has collapsed, or during the warm-up of the search and of
        the level.
    """
    levels = capacity_of(recipe.model, recipe.data.crop).levels
    images = recipe.evaluate.validation_images
    for number, (level, usage) in enumerate(zip(levels, validation.levels, strict=False)):
        own = recipe.model.levels[number]
        warm = validation.step >= own.start + own.warmup_steps + WARM_UP * recipe.train.steps
        if warm and has_collapsed(
            usage.perplexity, level.codebook_size, level.grid, images, leniency=_LENIENCY
        ):
            return number
    return None


def _read_validations(path: Path) -> list[Validation]:
    """Read the validations of a run, one per step, ordered by step. A cut-off last line is ignored."""
    rows = read_rows(path).rows if path.exists() else []
    remedy = "choose another --out"
    validations = [
        check_record(Validation, row, f"'{path}'", remedy) for row in rows if row["kind"] == "validation"
    ]
    # A step that was repeated after a resume is recorded twice. Keep the last one.
    by_step = {validation.step: validation for validation in validations}
    return [by_step[step] for step in sorted(by_step)]
