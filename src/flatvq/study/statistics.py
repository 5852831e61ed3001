"""Equivalent, better, worse or inconclusive: two arms over several seeds.

The seed is the unit of replication. Every number here is a seed's own mean over the held-out images; the
images themselves are never counted as replicates, since they share one training.
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
"""`seeds_needed` counts no further: this value reads "a thousand or more", that is, not by more seeds."""

_LEVEL = 0.90  # two one-sided tests at 5 % each are one interval of 90 %


@dataclass(frozen=True)
class MeanInterval:
    """An arm's own mean over its seeds, with Student's t interval.

    Attributes:
        mean: mean over seeds.
        interval: its confidence interval, or None for a single seed, which says nothing of the spread.
        seeds: how many seeds there are.
        level: the interval's confidence level.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    level: float


@dataclass(frozen=True)
class Difference:
    """How arm a differs from arm b, and what may be said about it.

    Attributes:
        mean: mean over seeds of a minus b.
        interval90: 90 % confidence interval of that mean (Student's t), or None for a single seed.
        per_seed: a minus b of each seed, in the order given.
        seeds: how many seeds there are.
        margin: differences smaller than this were declared, before the runs, not to matter.
        p_equivalence: p value of the two one-sided tests (the larger of the two); below 0.05 the
            data reject a difference as large as the margin. None for a single seed.
        verdict: `equivalent` if the interval lies inside the margin; else `better` or `worse` if it lies
            wholly above or below zero (higher values are better); else `inconclusive`.
        seeds_needed: for an inconclusive verdict on at least two seeds, how many in all would settle it;
            else None.
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
    """Mean over seeds with its t interval: mean ± t(n - 1) s / sqrt(n).

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
    sample = _Sample.of(_finite(values, "the values"))
    return MeanInterval(sample.mean, sample.interval(level), sample.size, level)


def compare(a: Sequence[float], b: Sequence[float], margin: float) -> Difference:
    """Test whether two arms are equivalent, seed by seed.

    Two one-sided t tests on the paired differences (Schuirmann 1987; Lakens 2017), told through the interval
    that is their equal: both reject at 5 % exactly when the 90 % interval lies inside the margin. A
    difference may be both real and too small to matter; it is `equivalent` then, whatever its sign. Equal
    differences in all seeds have an interval of no width, which is judged in the same way.

    `seeds_needed` is the smallest n, above the present one, at which the interval with the observed mean m
    and standard deviation s would settle the question one way or the other:

        t(0.95, n - 1) s / sqrt(n) < max(margin - |m|, |m|)

    It takes both for the truth, so it is an estimate to plan by and no promise: about as often as not the
    actual seeds will ask for more. It ends at `SEEDS_CAP`, to be read as "that many or more".

    Args:
        a: one number per seed, for which higher is better.
        b: the same seeds' numbers of the other arm, in the same order.
        margin: the largest difference that does not matter, in the same unit.

    Returns:
        The difference and the verdict.

    Raises:
        FlatvqError: if the arms have not the same, positive number of seeds, a value is not finite, or the
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
            f"one arm has {len(a)} seeds and the other {len(b)}", "compare the same seeds of both"
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
    """What a t interval is made of; the deviation of a single value is None."""

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
        # scipy.special is a tenth of scipy.stats to import; stdtrit is the quantile of Student's t
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
    """P value of the harder of the two one-sided tests: the one on the side where the mean lies."""
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

    room = max(margin - abs(sample.mean), abs(sample.mean))
    sizes = np.arange(sample.size + 1, max(SEEDS_CAP, sample.size + 1) + 1)
    halves = stdtrit(sizes - 1, (1 + _LEVEL) / 2) * sample.deviation / np.sqrt(sizes)
    enough = sizes[halves < room]
    return int(enough[0] if len(enough) else sizes[-1])


def _finite(values: Sequence[float], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise FlatvqError(f"there are no seeds in {name}", "run at least one, better three or more")
    wrong = array[~np.isfinite(array)]
    if len(wrong):
        raise FlatvqError(f"{wrong[0]} is among {name}", "leave failed trials out of the comparison")
    return array
