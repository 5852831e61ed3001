"""The arms as the report's tables show them: capacities, and means over seeds."""

from __future__ import annotations

from dataclasses import dataclass

from flatvq.metrics import LEVEL_METRICS, PRIMARY, TRIAL_METRICS, Metric, shown_in
from flatvq.records import Arm, Study, Trial
from flatvq.report.formatting import level_name, solver_changes
from flatvq.report.palette import Style
from flatvq.report.summary import Spread, mean, spread

__all__ = ["ArmView", "LevelView", "Residual", "arm_columns", "view_arm"]


@dataclass(frozen=True)
class LevelView:
    """One level of an arm.

    Attributes:
        name: such as `bottom`.
        codebook_sizes: the codebook sizes, such as `4 × 512`.
        grid: rows and columns.
        code_dim: D.
        metrics: mean over seeds of each metric of `LEVEL_METRICS`, by key.
    """

    name: str
    codebook_sizes: str
    grid: tuple[int, int]
    code_dim: int
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Residual:
    """Relative difference of a capacity from the reference arm.

    Attributes:
        value: the difference; None if it was not recorded.
        off: whether the capacity had to match and exceeds the tolerance.
    """

    value: float | None
    off: bool


@dataclass(frozen=True)
class ArmView:
    """An arm as the tables show it.

    Attributes:
        arm: its record.
        style: its colour and dash pattern.
        trials: its finished trials, sorted by seed.
        failed: number of its failed trials.
        psnr_db: mean over seeds with its interval; None if no trial finished.
        metrics: mean over seeds of each metric of `TRIAL_METRICS`, by key.
        seconds_per_step: mean over seeds of the time of a training step; None if it was not recorded.
        levels: its levels.
        residuals: differences from the reference arm, by capacity.
        solved: the changes of the matching solver.
    """

    arm: Arm
    style: Style
    trials: list[Trial]
    failed: int
    psnr_db: Spread | None
    metrics: dict[str, float | None]
    seconds_per_step: float | None
    levels: list[LevelView]
    residuals: dict[str, Residual]
    solved: str


def view_arm(study: Study, arm: Arm, style: Style) -> ArmView:
    """Summarize an arm over its finished trials."""
    trials = study.done(arm.name)
    return ArmView(
        arm=arm,
        style=style,
        trials=trials,
        failed=sum(trial.arm == arm.name and not trial.done for trial in study.trials),
        psnr_db=spread(trial.psnr_db for trial in trials),
        metrics={key: mean(trial.value(key) for trial in trials) for key in TRIAL_METRICS},
        seconds_per_step=mean(trial.seconds_per_step for trial in trials),
        levels=[_view_level(arm, trials, level) for level in range(len(arm.level_table))],
        residuals=_residuals(study, arm),
        solved=solver_changes(study.match.solved.get(arm.name)),
    )


def arm_columns(arms: list[ArmView], compared: Metric) -> list[Metric]:
    """Return the metrics with a column in the table of arms, without PSNR: those that some arm has.

    If no trial finished, all metrics have a column.

    Args:
        arms: the arms.
        compared: the metric of the comparisons, which comes first.
    """
    others = [metric for metric in shown_in("arms", TRIAL_METRICS) if metric.key != compared.key]
    metrics = [metric for metric in (compared, *others) if metric.key != PRIMARY]
    present = [metric for metric in metrics if any(view.metrics[metric.key] is not None for view in arms)]
    return present or metrics


def _view_level(arm: Arm, trials: list[Trial], level: int) -> LevelView:
    structure = arm.level_table[level]
    records = [trial.levels[level] for trial in trials if trial.levels and level < len(trial.levels)]
    return LevelView(
        name=level_name(level, len(arm.level_table)),
        codebook_sizes=structure.codebook_sizes,
        grid=structure.grid,
        code_dim=structure.code_dim,
        metrics={key: mean(record.value(key) for record in records) for key in LEVEL_METRICS},
    )


def _residuals(study: Study, arm: Arm) -> dict[str, Residual]:
    return {
        key: Residual(value, _off(study, key, value))
        for key, value in study.match.residuals.get(arm.name, {}).items()
    }


def _off(study: Study, capacity: str, value: float | None) -> bool:
    tolerance = study.match.tolerance
    if capacity not in study.match.capacities or tolerance is None or value is None:
        return False
    return abs(value) > tolerance
