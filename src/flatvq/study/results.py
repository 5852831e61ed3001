"""`study.json`: what was asked and what came out, gathered from the runs (docs/records.md)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from flatvq.data import DataSplit, FileStatus
from flatvq.files import write_json, write_text
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS
from flatvq.processes import cores
from flatvq.recipe import DataRecipe, dump_yaml
from flatvq.records import read_metrics
from flatvq.study.collapse import collapse_of
from flatvq.study.data import StudyData
from flatvq.study.plan import Plan, PlannedArm
from flatvq.study.runner import Outcome
from flatvq.study.statistics import compare
from flatvq.study.verdict import Compared, study_verdict
from flatvq.train.machine import processor
from flatvq.versions import TRAINING_PROTOCOL, VERSION, commit

__all__ = ["compared_arms", "machine_record", "write_study"]

FORMAT = 2


def write_study(plan: Plan, outcomes: Sequence[Outcome], data: StudyData, folder: Path) -> dict[str, Any]:
    """Write `recipe.yaml` and `study.json`.

    Args:
        plan: the study.
        outcomes: one per trial.
        data: its images.
        folder: the study's folder.

    Returns:
        What `study.json` holds.

    Raises:
        FlatvqError: if a finished trial was begun with other images or another flatvq: nothing is compared.
    """
    data.check(folder, "train the trials again")
    trials = [_trial(outcome, folder) for outcome in outcomes]
    compared = compared_arms(plan, trials)
    recipe = plan.recipe
    study = {
        "format": FORMAT,
        "name": plan.name,
        "title": recipe.title,
        "flatvq": VERSION,
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "training_protocol": TRAINING_PROTOCOL,
        "evaluation_protocol": data.identity.evaluation_protocol,
        "margin_db": recipe.margin_db,
        "identity": data.identity.to_dict(),
        "data": _data(plan.arms[0].recipe.data, data.split, _files(data.split, outcomes, folder)),
        "match": _match(plan),
        "arms": [_arm(arm, data) for arm in plan.arms],
        "trials": trials,
        "comparisons": [one.to_dict() for one in compared],
        "verdict": asdict(study_verdict(plan, compared, trials)),
    }
    tree = recipe.model_dump(mode="json")
    write_text(folder / "recipe.yaml", dump_yaml(tree))
    write_json(folder / "study.json", study)
    return study


def compared_arms(plan: Plan, trials: Sequence[dict[str, Any]]) -> list[Compared]:
    """Make the planned comparisons over the seeds that both arms finished."""
    psnr: dict[str, dict[int, float]] = {arm.name: {} for arm in plan.arms}
    for trial in trials:
        if trial["status"] == "done":
            psnr[trial["arm"]][trial["seed"]] = trial["psnr_db"]
    compared = []
    for comparison in plan.comparisons:
        a, b = psnr[comparison.a], psnr[comparison.b]
        seeds = [seed for seed in plan.recipe.seeds if seed in a and seed in b]
        if seeds:
            values = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
            compared.append(Compared(comparison, compare(*values, margin=plan.recipe.margin_db)))
    return compared


def _arm(arm: PlannedArm, data: StudyData) -> dict[str, Any]:
    own = data.identity_of(arm.name)
    return {**arm.to_dict(), "identity": None if own == data.identity else own.to_dict()}


def _trial(outcome: Outcome, folder: Path) -> dict[str, Any]:
    recipe, run = outcome.trial.recipe, outcome.trial.run
    record: dict[str, Any] = {
        "arm": recipe.arm,
        "seed": recipe.seed,
        "status": outcome.status,
        "run": run.as_posix(),
        "error": outcome.error,
        "seconds": outcome.seconds,
        **dict.fromkeys(TRIAL_METRICS),
        "levels": [],
    }
    if outcome.status == "done":
        metrics = read_metrics(folder / run)
        record |= metrics.model_dump(include=set(TRIAL_METRICS))
        record["levels"] = [
            {
                **level.model_dump(include={"codebook_size", *LEVEL_METRICS}),
                "collapse": collapse_of(level.model_dump(), level.grid, metrics.images),
            }
            for level in metrics.levels
        ]
    return record


def _match(plan: Plan) -> dict[str, Any]:
    rule = plan.recipe.match
    return {
        "reference": rule.reference,
        "capacities": rule.capacities,
        "tolerance": rule.tolerance,
        "nearest": rule.nearest,
        "unmatched": rule.unmatched,
        "solved": {arm.name: arm.changes for arm in plan.arms if arm.changes},
        "residuals": {arm.name: arm.residuals for arm in plan.arms},
    }


def _files(data: DataSplit, outcomes: Sequence[Outcome], folder: Path) -> list[dict[str, Any]]:
    """Gather, once each, the files that were not used as they are; some only a trial found unreadable."""
    found = dict.fromkeys(data.file_statuses)
    for outcome in outcomes:
        if outcome.status == "done":
            files = read_metrics(folder / outcome.trial.run).files
            found |= dict.fromkeys(FileStatus(**file.model_dump()) for file in files)
    return [asdict(file) for file in found]


def _data(recipe: DataRecipe, data: DataSplit, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": recipe.source,
        "training_images": len(data.training),
        "validation_images": len(data.validation),
        "crop": recipe.crop,
        "held_out": data.held_out,
        "files": files,
    }


def machine_record() -> dict[str, Any]:
    """Say what figures were measured on."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
