"""Means and intervals over seeds. The seed is the unit of replication: one seed has no interval."""

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
        mean: mean over seeds.
        interval: 90 % confidence interval of the mean (Student's t); None for a single seed.
        seeds: number of seeds.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int


def mean(values: Iterable[float | int | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none.

    Example:
        >>> mean([1.0, None, 2.0]), mean([])
        (1.5, None)
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def spread(values: Iterable[float | None]) -> Spread | None:
    """Summarize one value per seed.

    Args:
        values: a value per seed; None for a missing one.

    Returns:
        Mean and 90 % interval; None if all values are missing.

    Example:
        >>> psnr = spread([25.1, 25.3, 25.2])
        >>> round(psnr.mean, 3), [round(end, 3) for end in psnr.interval]
        (25.2, [25.031, 25.369])
    """
    present = [value for value in values if value is not None]
    average = mean(present)
    if average is None or len(present) < 2:
        return None if average is None else Spread(average, None, 1)
    # Importing scipy.stats would take a second.
    from scipy.special import stdtrit

    freedom = len(present) - 1
    standard_error = sqrt(sum((value - average) ** 2 for value in present) / freedom / len(present))
    half = float(stdtrit(freedom, 0.95)) * standard_error
    return Spread(average, (average - half, average + half), len(present))


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Average curves at the steps that all curves have.

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
    """Average groups of neighbouring points so that at most `most` points remain.

    Example:
        >>> thin([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0)], 2)
        [(0.5, 2.0), (2.5, 6.0)]
    """
    size = -(-len(curve) // most)
    groups = [curve[start : start + size] for start in range(0, len(curve), size or 1)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    ]
