"""`tune.json`: the trials of a search, the best one, and the importance of each hyper-parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from flatvq import records
from flatvq.files import write_json
from flatvq.records.search import Attempt
from flatvq.tune.search import Search

__all__ = ["best_of", "tune_record", "write_record"]

FORMAT = 2
# With fewer finished trials, importances are not computed.
_MIN_TRIALS = 4
_STATES: dict[TrialState, Literal["done", "pruned", "failed"]] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def best_of(search: Search) -> FrozenTrial | None:
    """Return the finished trial with the highest PSNR, the first of several; None if no trial finished."""
    done = [trial for trial in search.study.get_trials() if trial.state == TrialState.COMPLETE]
    return max(done, key=lambda trial: (trial.value, -trial.number), default=None)


def tune_record(search: Search) -> records.Search:
    """Return the record of a search, without the confirmation."""
    best = best_of(search)
    ended = [trial for trial in search.study.get_trials() if trial.state.is_finished()]
    return records.Search(
        format=FORMAT,
        name=search.settings.name,
        steps=search.settings.base.train.steps,
        identity=search.identity,
        space={name: span.model_dump(mode="json") for name, span in search.settings.space.items()},
        trials=tuple(_attempt(trial) for trial in ended),
        best=None if best is None else best.number,
        importances=_importances(search.study),
    )


def write_record(folder: Path, record: records.Search, confirmed: records.Comparison | None) -> None:
    """Write `tune.json`.

    Args:
        folder: the folder of the search.
        record: the record of the search.
        confirmed: the comparison of the winner with the incumbent; None before it was made.
    """
    write_json(
        folder / "tune.json", record.model_copy(update={"confirmed": confirmed}).model_dump(mode="json")
    )


def _attempt(trial: FrozenTrial) -> Attempt:
    seconds = (
        (trial.datetime_complete - trial.datetime_start).total_seconds()
        if trial.datetime_complete and trial.datetime_start
        else None
    )
    return Attempt(
        number=trial.number,
        state=_STATES[trial.state],
        reason=trial.user_attrs.get("reason"),
        psnr_db=trial.value if trial.state == TrialState.COMPLETE else None,
        validations=tuple(sorted(trial.intermediate_values.items())),
        values=trial.params,
        run=trial.user_attrs.get("run"),
        seconds=seconds,
    )


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of each hyper-parameter in the difference between good and bad finished trials.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255).
    """
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(done) < _MIN_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):  # for example, if all trials had the same values
        return {}
