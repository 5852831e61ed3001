"""How many more bits one architecture needs than another for the same PSNR (`flatvq.study.curves`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from findings.records import Record, Trial
from flatvq.study.curves import Budget, compare_curves

__all__ = ["ARCHITECTURES", "BitsOfTrial", "RateDifference", "curve", "effective_bits", "rate_differences"]

ARCHITECTURES = ("single", "parallel", "conditioned", "residual")
"""The architectures, by the first part of the names of their arms."""


@dataclass(frozen=True)
class RateDifference:
    """The extra bits of a hierarchy over one level at the same PSNR, in per cent."""

    architecture: str
    """The hierarchy."""
    percent: float
    """The extra bits; negative if the hierarchy needs fewer."""
    interval: tuple[float, float]
    """The 90 % interval over seeds, which accounts for all looks."""
    shared: tuple[float, float]
    """The PSNR that both curves reach, in dB."""


BitsOfTrial = Callable[[Trial], float]
"""Returns the bits of an image in a trial."""


def effective_bits(trial: Trial) -> float:
    """Return the entropy of the indices of an image, in bits."""
    return float(trial["effective_bits_per_image"])


def curve(record: Record, architecture: str, bits_of: BitsOfTrial = effective_bits) -> list[Budget]:
    """Return the curve of an architecture: bits per pixel and PSNR, by increasing bits.

    Args:
        record: a study of several budgets.
        architecture: one of `ARCHITECTURES`.
        bits_of: the bits of an image.
    """
    budgets = [
        Budget(
            tuple(bits_of(trial) / record.size**2 for trial in record.trials(arm)),
            tuple(trial["psnr_db"] for trial in record.trials(arm)),
        )
        for arm in record.arms
        if arm.startswith(f"{architecture}-")
    ]
    return sorted(budgets, key=lambda budget: sum(budget.bits) / len(budget.bits))


def rate_differences(record: Record, bits_of: BitsOfTrial = effective_bits) -> list[RateDifference]:
    """Return the rate difference of each hierarchy of a study of several budgets.

    Args:
        record: the study.
        bits_of: the bits of an image.
    """
    single = curve(record, "single", bits_of)
    return [_compared(name, curve(record, name, bits_of), single, record.level) for name in ARCHITECTURES[1:]]


def _compared(name: str, one: list[Budget], other: list[Budget], level: float) -> RateDifference:
    result = compare_curves(one, other)
    percent, interval = result.extra_percent(level)
    return RateDifference(name, percent, interval or (percent, percent), result.values)
