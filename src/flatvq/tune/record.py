"""`tune.json`: what was tried, what it came to, and what mattered (docs/records.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from flatvq.files import write_json
from flatvq.tune.search import Search

__all__ = ["best_of", "tune_record", "write_record"]

FORMAT = 2
# Fewer finished trials say nothing of importance.
_LEAST = 4


def best_of(search: Search) -> FrozenTrial | None:
    """Return the finished trial with the highest PSNR, the earliest of equals; None if none finished."""
    done = [trial for trial in search.study.get_trials() if trial.state == TrialState.COMPLETE]
    return max(done, key=lambda trial: (trial.value, -trial.number), default=None)


def tune_record(search: Search) -> dict[str, Any]:
    """Gather a search's record."""
    best = best_of(search)
    return {
        "format": FORMAT,
        "name": search.asked.name,
        "steps": search.asked.base.train.steps,
        "identity": search.identity.to_dict(),
        "space": {name: knob.model_dump(mode="json") for name, knob in search.asked.space.items()},
        "trials": [_trial(trial) for trial in search.study.get_trials() if trial.state.is_finished()],
        "best": None if best is None else best.number,
        "importances": _importances(search.study),
    }


def write_record(folder: Path, record: dict[str, Any], confirmed: dict[str, Any] | None) -> None:
    """Write tune.json; `confirmed` is the comparison of the winner with the incumbent, once it was made."""
    write_json(folder / "tune.json", {**record, "confirmed": confirmed})


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    seconds = (
        (trial.datetime_complete - trial.datetime_start).total_seconds()
        if trial.datetime_complete and trial.datetime_start
        else None
    )
    return {
        "number": trial.number,
        "state": {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name],
        "reason": trial.user_attrs.get("reason"),
        "psnr_db": trial.value if trial.state == TrialState.COMPLETE else None,
        "validations": [[step, value] for step, value in sorted(trial.intermediate_values.items())],
        "values": trial.params,
        "run": trial.user_attrs.get("run"),
        "seconds": seconds,
    }


def _importances(study: optuna.Study) -> dict[str, float]:
    """Share of each hyper-parameter in what told good trials from bad ones.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255), on finished trials.
    """
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(done) < _LEAST:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):  # such as where all trials had the same values
        return {}
