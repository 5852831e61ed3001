"""How many more bits one architecture needs than another for the same PSNR.

Bjøntegaard's rate difference (VCEG-M33, 2001), with lines between the points in place of a polynomial: the
mean difference of the logarithms of the rates, over the PSNRs that both curves reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1, log

import numpy as np
from numpy.typing import NDArray

from findings.records import Record, Trial
from flatvq.study.estimates import Estimate

__all__ = ["ARCHITECTURES", "Curve", "RateDifference", "curve", "rate_difference", "rate_differences"]

ARCHITECTURES = ("single", "parallel", "conditioned", "residual")
"""The architectures, by the first part of the names of their arms."""
_POINTS = 1001
_STEP = 1e-4
_LEVEL = 0.05


@dataclass(frozen=True)
class Curve:
    """The budgets of an architecture, by increasing bits."""

    rates: list[float]
    """Effective bits per pixel, means over seeds."""
    samples: list[list[float]]
    """The PSNR of each seed, in dB."""

    @property
    def psnrs(self) -> list[float]:
        """The means over seeds."""
        return [float(np.mean(sample)) for sample in self.samples]


@dataclass(frozen=True)
class RateDifference:
    """The extra bits of a hierarchy, in per cent of those of one level, at the same PSNR."""

    architecture: str
    """The hierarchy."""
    percent: float
    """The extra bits; negative if the hierarchy needs fewer."""
    interval: tuple[float, float]
    """The 90 % interval over seeds."""


def curve(record: Record, architecture: str) -> Curve:
    """Return the curve of an architecture.

    Args:
        record: a study of several budgets.
        architecture: one of `ARCHITECTURES`.
    """

    def rate(arm: str) -> float:
        return record.mean(arm, lambda trial: trial["effective_bits_per_image"]) / record.size**2

    arms = sorted((arm for arm in record.arms if arm.startswith(f"{architecture}-")), key=rate)
    return Curve([rate(arm) for arm in arms], [record.values(arm, _psnr) for arm in arms])


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

    The interval is Welch's, for the logarithm of the ratio of rates, which is linearized in the mean PSNR of
    each arm (the delta method).
    """
    single = curve(record, "single")
    return [_compared(name, curve(record, name), single) for name in ARCHITECTURES[1:]]


def _compared(name: str, one: Curve, other: Curve) -> RateDifference:
    means = np.array(one.psnrs + other.psnrs)
    points = len(one.rates)

    def log_ratio(psnrs: NDArray[np.float64]) -> float:
        curves = (one.rates, psnrs[:points].tolist()), (other.rates, psnrs[points:].tolist())
        return log(1 + rate_difference(*curves))

    steps = _STEP * np.eye(len(means))
    slopes = [(log_ratio(means + step) - log_ratio(means - step)) / (2 * _STEP) for step in steps]
    spread = Estimate.welch([np.array(sample) for sample in one.samples + other.samples], slopes)
    estimate = Estimate(log_ratio(means), spread.error, spread.freedom)
    low, high = estimate.interval(_LEVEL) or (estimate.mean, estimate.mean)
    return RateDifference(name, 100 * expm1(estimate.mean), (100 * (exp(low) - 1), 100 * (exp(high) - 1)))


def _psnr(trial: Trial) -> float:
    return float(trial["psnr_db"])
