"""How many more bits one architecture needs than another for the same PSNR (`flatvq.study.curves`)."""

from __future__ import annotations

from dataclasses import dataclass

from findings.records import Record
from flatvq.study.curves import Budget, compare_curves

__all__ = ["ARCHITECTURES", "RateDifference", "curve", "rate_differences"]

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


def curve(record: Record, architecture: str) -> list[Budget]:
    """Return the curve of an architecture: effective bits per pixel and PSNR, by increasing bits.

    Args:
        record: a study of several budgets.
        architecture: one of `ARCHITECTURES`.
    """
    budgets = [
        Budget(
            tuple(trial["effective_bits_per_image"] / record.size**2 for trial in record.trials(arm)),
            tuple(trial["psnr_db"] for trial in record.trials(arm)),
        )
        for arm in record.arms
        if arm.startswith(f"{architecture}-")
    ]
    return sorted(budgets, key=lambda budget: sum(budget.bits) / len(budget.bits))


def rate_differences(record: Record) -> list[RateDifference]:
    """Return the rate difference of each hierarchy of a study of several budgets."""
    single = curve(record, "single")
    return [_compared(name, curve(record, name), single, record.level) for name in ARCHITECTURES[1:]]


def _compared(name: str, one: list[Budget], other: list[Budget], level: float) -> RateDifference:
    result = compare_curves(one, other)
    percent, interval = result.extra_percent(level)
    return RateDifference(name, percent, interval or (percent, percent), result.values)
