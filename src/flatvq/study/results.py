"""Gathers the results of the runs into `study.json` (docs/records.md)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flatvq import records
from flatvq.data import DataSplit
from flatvq.errors import FlatvqError
from flatvq.files import finite, write_json, write_text
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS
from flatvq.processes import cores
from flatvq.recipe import DataRecipe, dump_yaml
from flatvq.records import precision_of, read_metrics, seconds_per_step
from flatvq.records.run import FileRecord, LevelMetrics, Metrics
from flatvq.study.arms import PlannedArm
from flatvq.study.collapse import collapse_of
from flatvq.study.data import StudyData
from flatvq.study.design import earlier_designs, stored_design
from flatvq.study.estimates import normality_p
from flatvq.study.outcome import Outcome
from flatvq.study.plan import Plan
from flatvq.study.rate_curves import compare_rate_curves
from flatvq.study.statistics import contrast
from flatvq.study.verdict import Compared, study_verdict
from flatvq.train.machine import processor
from flatvq.versions import TRAINING_PROTOCOL, VERSION, commit

__all__ = ["compare_arms", "machine_record", "write_study"]

FORMAT = 3


def write_study(
    plan: Plan,
    outcomes: Sequence[Outcome],
    data: StudyData,
    folder: Path,
    *,
    look: int | None = None,
    seconds: float | None = None,
) -> records.Study:
    """Compare the arms after a look, and write `recipe.yaml` and `study.json`.

    Args:
        plan: the study.
        outcomes: one per trial up to the look.
        data: the images of the study.
        folder: the folder of the study.
        look: the number of seeds of the look; by default the last one.
        seconds: the wall time of the look; None if nothing was trained.

    Returns:
        The content of `study.json`.

    Raises:
        FlatvqError: if a finished trial used other images or another version of flatvq, or another study has
            started in the folder. Nothing is written then.
    """
    data.check(folder, "train the trials again")
    before = _stored_study(folder)
    trials = [_trial_record(outcome, folder, before) for outcome in outcomes]
    design = stored_design(plan, folder)
    compared = compare_arms(plan, trials, design.level)
    recipe, look = plan.recipe, look or plan.recipe.looks[-1]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    latest = records.Look(
        seeds=look, created=created, seconds=seconds, comparisons=tuple(c.to_brief() for c in compared)
    )
    study = records.Study(
        format=FORMAT,
        name=plan.name,
        title=recipe.title,
        flatvq=VERSION,
        commit=commit(),
        created=created,
        machine=machine_record(),
        training_protocol=TRAINING_PROTOCOL,
        evaluation_protocol=data.identity.evaluation_protocol,
        design=design,
        looks=_looks(before, latest),
        earlier_designs=earlier_designs(design, folder),
        identity=data.identity,
        data=_data_record(plan.arms[0].recipe.data, data.split, _files(data.split, outcomes, folder)),
        match=_match_record(plan),
        arms=tuple(_arm_record(arm, data) for arm in plan.arms),
        trials=tuple(trials),
        comparisons=tuple(result.to_record() for result in compared),
        curves=compare_rate_curves(plan, trials, design.level),
        verdict=study_verdict(plan, compared, trials, look),
    )
    write_text(folder / "recipe.yaml", dump_yaml(recipe.model_dump(mode="json", exclude={"cluster"})))
    write_json(folder / "study.json", study.model_dump(mode="json"))
    return study


def compare_arms(plan: Plan, trials: Sequence[records.Trial], level: float) -> list[Compared]:
    """Make the planned comparisons.

    Paired comparisons use the seeds that all their arms finished. Welch comparisons use all finished seeds
    of each arm.

    Args:
        plan: the study.
        trials: its trials.
        level: the one-sided level of the intervals.

    Returns:
        The comparisons. If an arm has no finished seed, its comparisons are left out.
    """
    recipe = plan.recipe
    metric = TRIAL_METRICS[recipe.metric]
    values: dict[str, dict[int, float]] = {arm.name: {} for arm in plan.arms}
    for trial in trials:
        value = trial.value(metric.key)
        if trial.done and value is not None:
            values[trial.arm][trial.seed] = value
    compared = []
    for comparison in plan.comparisons:
        by_seed = [values[arm] for arm in comparison.arms]
        shared = [seed for seed in recipe.seeds if all(seed in arm for arm in by_seed)]
        same_seeds = [[arm[seed] for seed in shared] for arm in by_seed]
        samples = same_seeds if recipe.interval == "paired" else [list(arm.values()) for arm in by_seed]
        if not all(samples):
            continue
        difference = contrast(
            samples,
            comparison.weights,
            recipe.margin,
            interval=recipe.interval,
            level=level,
            higher_is_better=metric.higher_is_better is not False,
        )
        per_seed = np.asarray(comparison.weights) @ np.array(same_seeds)
        tested = [per_seed.tolist()] if recipe.interval == "paired" else samples
        compared.append(
            Compared(
                comparison,
                replace(difference, per_seed=tuple(per_seed.tolist())),
                metric,
                normality_p(tested),
            )
        )
    return compared


def _stored_study(folder: Path) -> records.Study | None:
    """Return the study that an earlier look wrote; None if there is none or it is damaged."""
    with suppress(FlatvqError):
        return records.load_study(folder)
    return None


def _looks(before: records.Study | None, latest: records.Look) -> tuple[records.Look, ...]:
    """Append a look to the earlier looks. A look that is computed again keeps its first time."""
    looks = before.looks if before else ()
    same = next((look for look in looks if look.seeds == latest.seeds), None)
    if same is not None and same.comparisons == latest.comparisons:
        latest = same
    return (*(look for look in looks if look.seeds < latest.seeds), latest)


def _arm_record(arm: PlannedArm, data: StudyData) -> records.Arm:
    identity = data.identity_of(arm.name)
    return records.Arm(**arm.to_dict(), identity=None if identity == data.identity else identity)


def _trial_record(outcome: Outcome, folder: Path, before: records.Study | None) -> records.Trial:
    recipe, run = outcome.trial.recipe, outcome.trial.run
    # The time of a trial that an earlier call trained is in the earlier record.
    times = {trial.run: trial.seconds for trial in (before.trials if before else ())}
    metrics = read_metrics(folder / run) if outcome.status == "done" else None
    return records.Trial(
        arm=recipe.arm,
        seed=recipe.seed,
        status=outcome.status,
        run=run.as_posix(),
        error=outcome.error,
        seconds=outcome.seconds if outcome.seconds is not None else times.get(run.as_posix()),
        seconds_per_step=seconds_per_step(folder / run, recipe.train.batch_size) if metrics else None,
        precision=precision_of(folder / run) if metrics else None,
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
