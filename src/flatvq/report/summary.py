"""Means over seeds. The seed is the unit of replication; one seed gives no interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from flatvq.report.points import Point

__all__ = ["Spread", "mean", "mean_curve", "spread", "thin"]


@dataclass(frozen=True)
class Spread:
    """A value over seeds.

    Attributes:
        mean: over the seeds.
        interval: 90 % confidence interval of that mean (Student's t); None for a single seed.
        seeds: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int


def mean(values: Iterable[float | int | None]) -> float | None:
    """Return the mean of what is there; None if nothing is.

    Example:
        >>> mean([1.0, None, 2.0]), mean([])
        (1.5, None)
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def spread(values: Iterable[float | None]) -> Spread | None:
    """Summarise one value per seed.

    Args:
        values: a value per seed; those that are missing do not count.

    Returns:
        Mean and 90 % interval; None if there is no value.

    Example:
        >>> found = spread([25.1, 25.3, 25.2])
        >>> round(found.mean, 3), [round(end, 3) for end in found.interval]
        (25.2, [25.031, 25.369])
    """
    present = [value for value in values if value is not None]
    middle = mean(present)
    if middle is None or len(present) < 2:
        return None if middle is None else Spread(middle, None, 1)
    # scipy.special alone, since scipy.stats takes a second to import.
    from scipy.special import stdtrit

    freedom = len(present) - 1
    error = sqrt(sum((value - middle) ** 2 for value in present) / freedom / len(present))
    half = float(stdtrit(freedom, 0.95)) * error
    return Spread(middle, (middle - half, middle + half), len(present))


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Average curves at the steps that all of them have.

    Example:
        >>> mean_curve([[(0.0, 1.0), (10.0, 3.0)], [(0.0, 2.0), (10.0, 5.0), (20.0, 9.0)]])
        [(0.0, 1.5), (10.0, 4.0)]
    """
    tables = [dict(curve) for curve in curves if curve]
    if not tables:
        return []
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in shared]


def thin(curve: Sequence[Point], most: int) -> list[Point]:
    """Average neighbouring points until at most so many are left.

    Example:
        >>> thin([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0)], 2)
        [(0.5, 2.0), (2.5, 6.0)]
    """
    size = -(-len(curve) // most)
    parts = [curve[start : start + size] for start in range(0, len(curve), size or 1)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
