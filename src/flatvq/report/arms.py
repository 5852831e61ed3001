"""What the tables say of an arm: its capacity, and its trials' means over seeds."""

from __future__ import annotations

from dataclasses import dataclass

from flatvq.records import Arm, Study, Trial
from flatvq.report.formatting import changes, level_name
from flatvq.report.palette import Look
from flatvq.report.summary import Spread, mean, spread

__all__ = ["ArmView", "LevelView", "Residual", "view_arm"]


@dataclass(frozen=True)
class LevelView:
    """One codebook, means over seeds; `usage` is a share in [0, 1]."""

    name: str
    codes: str
    grid: tuple[int, int]
    code_dim: int
    usage: float | None
    perplexity: float | None
    quantization_error: float | None


@dataclass(frozen=True)
class Residual:
    """Relative difference of a capacity from the reference arm; `off` if it had to match and does not."""

    value: float | None
    off: bool


@dataclass(frozen=True)
class ArmView:
    """An arm as the tables show it.

    Attributes:
        arm: as built.
        look: its colour and dash.
        trials: the finished ones, by seed.
        failed: how many failed.
        psnr_db: mean over seeds with its interval; None if no trial finished.
        ssim, mse, ms_ssim, effective_bits: means over seeds.
        levels: its codebooks.
        residuals: by capacity.
        solved: what the solver changed, in words.
    """

    arm: Arm
    look: Look
    trials: list[Trial]
    failed: int
    psnr_db: Spread | None
    ssim: float | None
    mse: float | None
    ms_ssim: float | None
    effective_bits: float | None
    levels: list[LevelView]
    residuals: dict[str, Residual]
    solved: str


def view_arm(study: Study, arm: Arm, look: Look) -> ArmView:
    """Summarise an arm over its finished trials."""
    trials = study.done(arm.name)
    match = study.match
    residuals = {
        capacity: Residual(value, _off(study, capacity, value))
        for capacity, value in match.residuals.get(arm.name, {}).items()
    }
    return ArmView(
        arm=arm,
        look=look,
        trials=trials,
        failed=sum(trial.arm == arm.name and not trial.done for trial in study.trials),
        psnr_db=spread(trial.psnr_db for trial in trials),
        ssim=mean(trial.ssim for trial in trials),
        mse=mean(trial.mse for trial in trials),
        ms_ssim=mean(trial.ms_ssim for trial in trials),
        effective_bits=mean(trial.effective_bits_per_image for trial in trials),
        levels=[_view_level(arm, trials, level) for level in range(len(arm.level_table))],
        residuals=residuals,
        solved=changes(match.solved.get(arm.name)),
    )


def _view_level(arm: Arm, trials: list[Trial], level: int) -> LevelView:
    built = arm.level_table[level]
    found = [trial.levels[level] for trial in trials if trial.levels and level < len(trial.levels)]
    return LevelView(
        name=level_name(level, len(arm.level_table)),
        codes=built.codes,
        grid=built.grid,
        code_dim=built.code_dim,
        usage=mean(item.usage for item in found),
        perplexity=mean(item.perplexity for item in found),
        quantization_error=mean(item.quantization_error for item in found),
    )


def _off(study: Study, capacity: str, value: float | None) -> bool:
    tolerance = study.match.tolerance
    required = capacity in study.match.capacities and tolerance is not None
    return required and value is not None and abs(value) > (tolerance or 0.0)
