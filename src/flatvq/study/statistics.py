"""Compares two arms over several seeds: equivalent, better, worse or inconclusive.

The seed is the unit of replication. Every number here is the mean of one seed over the held-out images. The
images are not replicates, because they share one trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flatvq.errors import FlatvqError

__all__ = ["SEEDS_CAP", "Difference", "MeanInterval", "Verdict", "compare", "mean_interval"]

Verdict = Literal["equivalent", "better", "worse", "inconclusive"]

SEEDS_CAP = 1000
"""The largest value of `seeds_needed`. It means "a thousand or more": more seeds are no practical answer."""

# Two one-sided tests at 5 % each are equivalent to one interval of 90 %.
_LEVEL = 0.90


@dataclass(frozen=True)
class MeanInterval:
    """The mean of an arm over its seeds, with Student's t interval.

    Attributes:
        mean: mean over seeds.
        interval: its confidence interval, or None for a single seed, from which no spread can be estimated.
        seeds: the number of seeds.
        level: the confidence level of the interval.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    level: float


@dataclass(frozen=True)
class Difference:
    """The difference of two arms, a minus b, and the verdict on it.

    Attributes:
        mean: mean over seeds of a minus b.
        interval90: 90 % confidence interval of that mean (Student's t), or None for a single seed.
        per_seed: a minus b for each seed, in the order given.
        seeds: the number of seeds.
        margin: the largest difference that does not matter, chosen before the runs.
        p_equivalence: the larger p value of the two one-sided tests; below 0.05, a difference as large as the
            margin is rejected. None for a single seed.
        verdict: `equivalent` if the interval lies inside the margin; else `better` or `worse` if it lies
            entirely above or below zero (higher values are better); else `inconclusive`.
        seeds_needed: for an inconclusive verdict on at least two seeds, the estimated total number of seeds
            for a conclusive one; else None.
    """

    mean: float
    interval90: tuple[float, float] | None
    per_seed: tuple[float, ...]
    seeds: int
    margin: float
    p_equivalence: float | None
    verdict: Verdict
    seeds_needed: int | None


def mean_interval(values: Sequence[float], level: float = _LEVEL) -> MeanInterval:
    """Compute the mean over seeds and its t interval: mean ± t(n - 1) s / sqrt(n).

    Args:
        values: one number per seed.
        level: confidence level, between 0 and 1.

    Returns:
        The mean and its interval.

    Raises:
        FlatvqError: if there is no value, a value is not finite, or the level is not between 0 and 1.

    Example:
        >>> low, high = mean_interval([25.0, 25.2, 25.4]).interval  # 25.2 ± 2.92 * 0.2 / sqrt(3)
        >>> round(low, 3), round(high, 3)
        (24.863, 25.537)
    """
    if not 0 < level < 1:
        raise FlatvqError(f"confidence level {level} is not between 0 and 1", "give for example 0.9")
    sample = _Sample.of(_finite(values, "the sample"))
    return MeanInterval(sample.mean, sample.interval(level), sample.size, level)


def compare(a: Sequence[float], b: Sequence[float], margin: float) -> Difference:
    """Test whether two arms are equivalent, seed by seed.

    The test consists of two one-sided t tests on the paired differences (Schuirmann 1987; Lakens 2017). Both
    reject at 5 % exactly when the 90 % interval lies inside the margin, so the interval decides. A difference
    that is significant but smaller than the margin is `equivalent`, whatever its sign. If the difference is
    equal in all seeds, the interval has zero width and the same rule applies.

    `seeds_needed` is the smallest n, larger than the present one, at which an interval with the observed mean
    m and standard deviation s would no longer be inconclusive:

        t(0.95, n - 1) s / sqrt(n) < max(margin - |m|, |m|)

    It is an estimate for planning, since m and s are themselves estimates: about half of the time, more seeds
    are needed. It is at most `SEEDS_CAP`, which means "that many or more".

    Args:
        a: one number per seed; higher is better.
        b: the numbers of the other arm for the same seeds, in the same order.
        margin: the largest difference that does not matter, in the same unit.

    Returns:
        The difference and the verdict.

    Raises:
        FlatvqError: if the arms have no seeds or different numbers of seeds, a value is not finite, or the
            margin is not positive.

    Example:
        >>> result = compare([25.33, 25.31, 25.36], [25.30, 25.33, 25.34], margin=0.1)
        >>> result.verdict, round(result.mean, 4)
        ('equivalent', 0.01)
        >>> compare([25.33], [25.06], margin=0.1).verdict
        'inconclusive'
    """
    if len(a) != len(b):
        raise FlatvqError(
            f"one arm has {len(a)} seeds and the other {len(b)}", "compare the same seeds of both arms"
        )
    if not (isfinite(margin) and margin > 0):
        raise FlatvqError(
            f"margin {margin} is not positive", "give the largest difference that does not matter"
        )
    differences = _finite(a, "the first arm") - _finite(b, "the second arm")
    sample = _Sample.of(differences)
    interval = sample.interval(_LEVEL)
    verdict = _verdict(interval, margin)
    return Difference(
        mean=sample.mean,
        interval90=interval,
        per_seed=tuple(differences.tolist()),
        seeds=sample.size,
        margin=float(margin),
        p_equivalence=_p_equivalence(sample, margin),
        verdict=verdict,
        seeds_needed=_seeds_needed(sample, margin) if verdict == "inconclusive" else None,
    )


@dataclass(frozen=True)
class _Sample:
    """Size, mean and standard deviation of a sample; the deviation of a single value is None."""

    size: int
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> _Sample:
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        return cls(len(values), float(values.mean()), deviation)

    def interval(self, level: float) -> tuple[float, float] | None:
        if self.deviation is None:
            return None
        # stdtrit is the quantile of Student's t. scipy.special imports ten times faster than scipy.stats.
        from scipy.special import stdtrit

        half = float(stdtrit(self.size - 1, (1 + level) / 2)) * self.deviation / sqrt(self.size)
        return self.mean - half, self.mean + half


def _verdict(interval: tuple[float, float] | None, margin: float) -> Verdict:
    if interval is None:
        return "inconclusive"
    low, high = interval
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "inconclusive"


def _p_equivalence(sample: _Sample, margin: float) -> float | None:
    """Return the larger p value of the two one-sided tests: that of the bound closer to the mean."""
    if sample.deviation is None:
        return None
    distance = margin - abs(sample.mean)
    error = sample.deviation / sqrt(sample.size)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(sample.size - 1, -distance / error))


def _seeds_needed(sample: _Sample, margin: float) -> int | None:
    if sample.deviation is None:
        return None
    from scipy.special import stdtrit

    largest_half_width = max(margin - abs(sample.mean), abs(sample.mean))
    sizes = np.arange(sample.size + 1, max(SEEDS_CAP, sample.size + 1) + 1)
    half_widths = stdtrit(sizes - 1, (1 + _LEVEL) / 2) * sample.deviation / np.sqrt(sizes)
    enough = sizes[half_widths < largest_half_width]
    return int(enough[0] if len(enough) else sizes[-1])


def _finite(values: Sequence[float], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise FlatvqError(f"there are no seeds in {name}", "run at least one, better three or more")
    non_finite = array[~np.isfinite(array)]
    if len(non_finite):
        raise FlatvqError(
            f"{name} has the value {non_finite[0]}, which is not finite", "leave out failed trials"
        )
    return array
