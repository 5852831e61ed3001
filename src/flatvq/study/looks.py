"""How strict each look of a study is, so that all looks together err rarely.

A study is judged after each planned number of seeds, and continues if the result is inconclusive. If each
look used the usual 5 % level, such a study would err in far more than 5 % of cases. With repeated confidence
intervals (Jennison and Turnbull 1984; for equivalence, Biometrics 49:31, 1993), each look uses the same,
lower level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["ERROR", "SKEWED_ERROR", "nominal_level"]

ERROR = 0.05
"""Largest share of studies that err on one side at any look, if differences of seeds are normal."""
SKEWED_ERROR = 0.057
"""The same share if differences of seeds have a skewness of 1: 6 % minus a margin for simulation error."""

_STUDIES = 2**17
_SEED = 1984
_CHUNK = 8
_BISECTIONS = 20

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


@cache
def nominal_level(looks: tuple[int, ...]) -> float:
    """Compute the one-sided level of each look's interval.

    The level `a` is the largest one at which the interval `mean ± t(1 - a, n - 1) s / sqrt(n)`, computed at
    every look, misses the true difference on one given side in at most `ERROR` of studies if the differences
    of seeds are normal, and in at most `SKEWED_ERROR` if they have a gamma distribution with skewness 1. The
    joint distribution of the t statistics over the looks does not depend on the true mean and standard
    deviation, so one simulation holds for all studies of a schedule. The simulation has a fixed seed. Welch
    intervals of arms with as many seeds have more degrees of freedom than these intervals, so their error is
    smaller at the same level.

    Args:
        looks: numbers of seeds, increasing, each at least 2.

    Returns:
        The level, rounded down to four decimals.

    Example:
        >>> nominal_level((4, 8)) < nominal_level((4,)) < 0.05
        True
    """
    rng = np.random.default_rng(_SEED)
    normal = _statistics(looks, rng, lambda rng, shape: rng.standard_normal(shape))
    gamma = _statistics(looks, rng, lambda rng, shape: 0.5 * rng.standard_gamma(4.0, shape) - 2.0)
    # A positive skewness makes the upper bound of the interval, whose statistic is -t, err most often.
    level = min(
        _level(looks, np.concatenate([normal, -normal], axis=1), ERROR), _level(looks, -gamma, SKEWED_ERROR)
    )
    return float(np.floor(level * 1e4) / 1e4)


def _statistics(looks: tuple[int, ...], rng: np.random.Generator, draw: Draw) -> NDArray[np.float64]:
    """Simulate studies with mean 0; return Student's t at each look, [looks, studies]."""
    return np.array(list(_paths(looks, rng, draw)))


def _paths(looks: tuple[int, ...], rng: np.random.Generator, draw: Draw) -> Iterator[NDArray[np.float64]]:
    total, squares, done = np.zeros(_STUDIES), np.zeros(_STUDIES), 0
    for look in looks:
        while done < look:
            values = draw(rng, (min(_CHUNK, look - done), _STUDIES))
            total += values.sum(axis=0)
            squares += np.square(values).sum(axis=0)
            done += len(values)
        mean = total / look
        yield mean / np.sqrt((squares / look - np.square(mean)) / (look - 1))


def _level(looks: tuple[int, ...], statistics: NDArray[np.float64], error: float) -> float:
    """Return the level at which a share `error` of studies exceeds the critical value at any look."""
    from scipy.special import stdtrit

    freedom = np.array(looks, dtype=np.float64) - 1
    low, high = 0.0, 0.5
    for _ in range(_BISECTIONS):
        level = (low + high) / 2
        beyond = statistics > stdtrit(freedom, 1 - level)[:, None]
        low, high = (low, level) if beyond.any(axis=0).mean() > error else (level, high)
    return low
