"""Rate curves: architectures with several budgets of bits, compared at equal bits and at equal quality.

Both differences are Bjøntegaard's (VCEG-M33, 2001), with lines between the budgets in place of a polynomial:
the mean difference of the metric over the bits that both curves reach, and the mean difference of the
logarithms of the bits over the values of the metric that both reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import expm1
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flatvq.errors import FlatvqError
from flatvq.study.estimates import Estimate

__all__ = ["Budget", "CurveDifference", "compare_curves", "extra_bits", "gain_at_equal_bits"]

Points: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""The bits and the metric of each budget, both increasing."""
Line: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

_GRID = 1001
# Step of the numerical derivatives, relative to the mean bits of an arm or to the largest metric of all arms.
_STEP = 1e-5


@dataclass(frozen=True)
class Budget:
    """One arm of a curve: the trials of one budget of bits."""

    bits: tuple[float, ...]
    """Bits per pixel of each seed."""
    values: tuple[float, ...]
    """The metric of each seed."""


@dataclass(frozen=True)
class CurveDifference:
    """How one curve compares with another."""

    difference: Estimate
    """The difference in the metric, first curve minus second, at equal bits."""
    log_ratio: Estimate
    """The logarithm of the ratio of bits, first curve to second, at an equal metric."""
    bits: tuple[float, float]
    """The bits that both curves reach: `difference` is a mean over this range."""
    values: tuple[float, float]
    """The values of the metric that both curves reach: `log_ratio` is a mean over this range."""

    def extra_percent(self, level: float) -> tuple[float, tuple[float, float] | None]:
        """Return the extra bits of the first curve in per cent, and their interval.

        Args:
            level: the one-sided level of the interval.
        """
        interval = self.log_ratio.interval(level)
        ends = None if interval is None else (100 * expm1(interval[0]), 100 * expm1(interval[1]))
        return 100 * expm1(self.log_ratio.mean), ends


def extra_bits(one: Points, other: Points) -> float:
    """Return the mean logarithm of the ratio of two curves' bits, at an equal metric.

    Args:
        one: bits and metric of each budget of the first curve.
        other: bits and metric of each budget of the second curve.

    Raises:
        FlatvqError: if bits are not positive, a curve does not increase, or the curves have no value of the
            metric in common.

    Example:
        >>> from math import exp
        >>> round(exp(extra_bits(([1.5, 3.0], [20.0, 22.0]), ([1.0, 2.0], [20.0, 22.0]))), 6)
        1.5
    """
    lines = [(np.asarray(points[1]), _log(points[0])) for points in (one, other)]
    return _mean_difference(lines[0], lines[1], "values of the metric")


def gain_at_equal_bits(one: Points, other: Points) -> float:
    """Return the mean difference of the metrics of two curves at equal bits.

    Args:
        one: bits and metric of each budget of the first curve.
        other: bits and metric of each budget of the second curve.

    Raises:
        FlatvqError: if bits are not positive, a curve does not increase, or the curves have no bits in
            common.

    Example:
        >>> round(gain_at_equal_bits(([1.0, 4.0], [20.5, 24.5]), ([1.0, 4.0], [20.0, 24.0])), 6)
        0.5
    """
    lines = [(_log(points[0]), np.asarray(points[1])) for points in (one, other)]
    return _mean_difference(lines[0], lines[1], "bits")


def compare_curves(a: Sequence[Budget], b: Sequence[Budget]) -> CurveDifference:
    """Compare two curves, with the standard errors of both differences.

    The differences are linearized in the mean bits and the mean metric of each arm (the delta method). Seeds
    are independent, so the variances of the arms add up, and the degrees of freedom follow Welch and
    Satterthwaite.

    Args:
        a: the budgets of the first curve, by increasing bits; at least two.
        b: the budgets of the second curve.

    Raises:
        FlatvqError: if the metric of a curve does not increase with its bits, or the curves do not overlap.

    Example:
        >>> one = [Budget((1.0, 1.0), (20.1, 20.3)), Budget((2.0, 2.0), (22.1, 22.3))]
        >>> other = [Budget((1.0, 1.0), (20.0, 20.0)), Budget((2.0, 2.0), (22.0, 22.0))]
        >>> result = compare_curves(one, other)
        >>> round(result.difference.mean, 3), round(result.extra_percent(0.05)[0], 1)
        (0.2, -6.7)
    """
    budgets = [*a, *b]
    means = np.array([[np.mean(budget.bits), np.mean(budget.values)] for budget in budgets])
    # A metric may be 0 in some arm, but it increases along a curve, so it is not 0 in all arms.
    scales = np.column_stack([means[:, 0], np.full(len(means), abs(means[:, 1]).max())])
    samples = [np.array([budget.bits, budget.values]) for budget in budgets]

    def estimate(measure: Callable[[Points, Points], float]) -> Estimate:
        def measured(points: NDArray[np.float64]) -> float:
            one, other = points[: len(a)].T.tolist(), points[len(a) :].T.tolist()
            return measure((one[0], one[1]), (other[0], other[1]))

        slopes = np.zeros_like(means)
        for position in np.ndindex(means.shape):
            step = np.zeros_like(means)
            step[position] = _STEP * scales[position]
            slopes[position] = (measured(means + step) - measured(means - step)) / (2 * step[position])
        linear = [slope @ sample for slope, sample in zip(slopes, samples, strict=True)]
        spread = Estimate.welch(linear, [1.0] * len(linear))
        return Estimate(measured(means), spread.error, spread.freedom)

    bits, values = (_shared(axis[: len(a)], axis[len(a) :]) for axis in means.T)
    return CurveDifference(estimate(gain_at_equal_bits), estimate(extra_bits), bits, values)


def _shared(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range that two increasing axes have in common."""
    return float(max(one[0], other[0])), float(min(one[-1], other[-1]))


def _log(bits: Sequence[float]) -> NDArray[np.float64]:
    """Return the logarithms of the bits of a curve."""
    if not min(bits, default=0.0) > 0:
        raise FlatvqError(f"a curve has the bits {list(bits)}", "give budgets of more than 0 bits")
    return np.log(bits)


def _mean_difference(one: Line, other: Line, what: str) -> float:
    """Return the mean of y of one line minus y of another, over the x that both have."""
    for line in (one, other):
        if not all(np.all(np.diff(axis) > 0) for axis in line):
            raise FlatvqError(
                "the metric of a curve does not increase with its bits", "compare budgets that differ more"
            )
    low, high = _shared(one[0], other[0])
    if low >= high:
        raise FlatvqError(f"the curves have no {what} in common", "compare budgets that are closer")
    grid = np.linspace(low, high, _GRID)
    return float(np.mean(np.interp(grid, *one) - np.interp(grid, *other)))
