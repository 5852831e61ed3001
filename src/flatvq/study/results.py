"""Gathers the results of the runs into `study.json` (docs/records.md)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from flatvq import records
from flatvq.data import DataSplit
from flatvq.files import finite, write_json, write_text
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS
from flatvq.processes import cores
from flatvq.recipe import DataRecipe, dump_yaml
from flatvq.records import read_metrics, seconds_per_step
from flatvq.records.run import FileRecord, LevelMetrics, Metrics
from flatvq.study.collapse import collapse_of
from flatvq.study.data import StudyData
from flatvq.study.outcome import Outcome
from flatvq.study.plan import Plan, PlannedArm
from flatvq.study.statistics import compare
from flatvq.study.verdict import Compared, study_verdict
from flatvq.train.machine import processor
from flatvq.versions import TRAINING_PROTOCOL, VERSION, commit

__all__ = ["compare_arms", "machine_record", "write_study"]

FORMAT = 3


def write_study(plan: Plan, outcomes: Sequence[Outcome], data: StudyData, folder: Path) -> records.Study:
    """Compare the arms, and write `recipe.yaml` and `study.json`.

    Args:
        plan: the study.
        outcomes: one per trial.
        data: the images of the study.
        folder: the folder of the study.

    Returns:
        The content of `study.json`.

    Raises:
        FlatvqError: if a finished trial used other images or another version of flatvq. Nothing is written
            then.
    """
    data.check(folder, "train the trials again")
    trials = [_trial_record(outcome, folder) for outcome in outcomes]
    compared = compare_arms(plan, trials)
    recipe = plan.recipe
    study = records.Study(
        format=FORMAT,
        name=plan.name,
        title=recipe.title,
        flatvq=VERSION,
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine_record(),
        training_protocol=TRAINING_PROTOCOL,
        evaluation_protocol=data.identity.evaluation_protocol,
        margin_db=recipe.margin_db,
        identity=data.identity,
        data=_data_record(plan.arms[0].recipe.data, data.split, _files(data.split, outcomes, folder)),
        match=_match_record(plan),
        arms=tuple(_arm_record(arm, data) for arm in plan.arms),
        trials=tuple(trials),
        comparisons=tuple(result.to_record() for result in compared),
        verdict=study_verdict(plan, compared, trials),
    )
    write_text(folder / "recipe.yaml", dump_yaml(recipe.model_dump(mode="json")))
    write_json(folder / "study.json", study.model_dump(mode="json"))
    return study


def compare_arms(plan: Plan, trials: Sequence[records.Trial]) -> list[Compared]:
    """Make the planned comparisons, each over the seeds that both arms finished.

    Args:
        plan: the study.
        trials: its trials.

    Returns:
        The comparisons, without those whose arms have no finished seed in common.
    """
    psnr: dict[str, dict[int, float]] = {arm.name: {} for arm in plan.arms}
    for trial in trials:
        if trial.done and trial.psnr_db is not None:
            psnr[trial.arm][trial.seed] = trial.psnr_db
    compared = []
    for comparison in plan.comparisons:
        a, b = psnr[comparison.a], psnr[comparison.b]
        seeds = [seed for seed in plan.recipe.seeds if seed in a and seed in b]
        if seeds:
            values = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
            compared.append(Compared(comparison, compare(*values, margin=plan.recipe.margin_db)))
    return compared


def _arm_record(arm: PlannedArm, data: StudyData) -> records.Arm:
    identity = data.identity_of(arm.name)
    return records.Arm(**arm.to_dict(), identity=None if identity == data.identity else identity)


def _trial_record(outcome: Outcome, folder: Path) -> records.Trial:
    recipe, run = outcome.trial.recipe, outcome.trial.run
    metrics = read_metrics(folder / run) if outcome.status == "done" else None
    return records.Trial(
        arm=recipe.arm,
        seed=recipe.seed,
        status=outcome.status,
        run=run.as_posix(),
        error=outcome.error,
        seconds=outcome.seconds,
        seconds_per_step=seconds_per_step(folder / run, recipe.train.batch_size) if metrics else None,
        **{key: metrics.value(key) if metrics else None for key in TRIAL_METRICS},
        levels=_level_records(metrics) if metrics else (),
    )


def _level_records(metrics: Metrics) -> tuple[records.TrialLevel, ...]:
    def record(level: LevelMetrics) -> records.TrialLevel:
        values = {key: level.value(key) for key in LEVEL_METRICS}
        kind = collapse_of(level, metrics.images)
        return records.TrialLevel(codebook_size=level.codebook_size, **values, collapse=kind)

    return tuple(record(level) for level in metrics.levels)


def _match_record(plan: Plan) -> records.Match:
    rule = plan.recipe.match
    return records.Match(
        reference=rule.reference,
        capacities=rule.capacities,
        tolerance=rule.tolerance,
        nearest=rule.nearest,
        unmatched=rule.unmatched,
        solved={arm.name: arm.changes for arm in plan.arms if arm.changes},
        residuals=finite({arm.name: arm.residuals for arm in plan.arms}),
    )


def _files(data: DataSplit, outcomes: Sequence[Outcome], folder: Path) -> list[FileRecord]:
    """Gather the statuses of files without duplicates. Some files only turn out unreadable in a trial."""
    files = dict.fromkeys(FileRecord(**asdict(status)) for status in data.file_statuses)
    for outcome in outcomes:
        if outcome.status == "done":
            files |= dict.fromkeys(read_metrics(folder / outcome.trial.run).files)
    return list(files)


def _data_record(recipe: DataRecipe, data: DataSplit, files: Sequence[FileRecord]) -> records.Data:
    return records.Data(
        source=recipe.source,
        training_images=len(data.training),
        validation_images=len(data.validation),
        crop=recipe.crop,
        held_out=data.held_out,
        files=tuple(files),
    )


def machine_record() -> dict[str, Any]:
    """Describe the machine and the software on which figures are measured."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
