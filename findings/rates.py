"""How many more bits one architecture needs than another for the same PSNR.

Bjøntegaard's rate difference (VCEG-M33, 2001), with lines between the points in place of a polynomial: the
mean difference of the logarithms of the rates, over the PSNRs that both curves reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from findings.records import Record
from flatvq.study.estimates import MeanInterval, mean_interval

__all__ = ["ARCHITECTURES", "RateDifference", "curve", "rate_difference", "rate_differences"]

ARCHITECTURES = ("single", "parallel", "conditioned", "residual")
"""The architectures, by the first part of the names of their arms."""
_POINTS = 1001


@dataclass(frozen=True)
class RateDifference:
    """The extra bits of a hierarchy, in per cent of those of one level, at the same PSNR."""

    architecture: str
    """The hierarchy."""
    percent: MeanInterval
    """The mean over seeds, with its 90 % interval."""


def curve(record: Record, architecture: str, seed: int | None = None) -> tuple[list[float], list[float]]:
    """Return effective bits per pixel and PSNR of the budgets of an architecture, by increasing bits.

    Args:
        record: a study of several budgets.
        architecture: one of `ARCHITECTURES`.
        seed: of this seed; the means over all seeds if None.
    """
    rates, psnrs = [], []
    for arm in record.arms:
        if arm.startswith(f"{architecture}-"):
            trials = [trial for trial in record.trials(arm) if seed in (None, trial["seed"])]
            rates.append(
                float(np.mean([trial["effective_bits_per_image"] for trial in trials])) / record.size**2
            )
            psnrs.append(float(np.mean([trial["psnr_db"] for trial in trials])))
    order = np.argsort(rates)
    return [rates[place] for place in order], [psnrs[place] for place in order]


def rate_difference(
    one: tuple[Sequence[float], Sequence[float]], other: tuple[Sequence[float], Sequence[float]]
) -> float:
    """Return how many more bits the first curve needs than the second, as a share: 0.1 is 10 % more.

    Args:
        one: rates and PSNRs, both increasing.
        other: rates and PSNRs, both increasing.

    Raises:
        ValueError: if the PSNRs do not overlap, or do not increase with the rate.

    Example:
        >>> round(rate_difference(([2.0, 4.0], [20.0, 22.0]), ([1.0, 2.0], [20.0, 22.0])), 6)
        1.0
    """
    for rates, psnrs in (one, other):
        if min(np.diff(rates)) <= 0 or min(np.diff(psnrs)) <= 0:
            raise ValueError(f"the PSNR does not increase with the rate: {psnrs} at {rates}")
    low, high = max(one[1][0], other[1][0]), min(one[1][-1], other[1][-1])
    if low >= high:
        raise ValueError(f"the curves have no PSNR in common: {one[1]} and {other[1]}")
    psnr = np.linspace(low, high, _POINTS)
    difference = _log_rate(one, psnr) - _log_rate(other, psnr)
    return float(np.exp(np.trapezoid(difference, psnr) / (high - low)) - 1)


def _log_rate(
    points: tuple[Sequence[float], Sequence[float]], psnr: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.interp(psnr, points[1], np.log(points[0]))


def rate_differences(record: Record) -> list[RateDifference]:
    """Return the rate difference of each hierarchy of a study of several budgets.

    Each seed gives a curve for both architectures, and so one difference.
    """
    seeds = sorted({trial["seed"] for trial in record.study["trials"]})
    return [
        RateDifference(
            name,
            mean_interval(
                [
                    100 * rate_difference(curve(record, name, seed), curve(record, "single", seed))
                    for seed in seeds
                ]
            ),
        )
        for name in ARCHITECTURES[1:]
    ]
