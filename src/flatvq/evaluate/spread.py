"""The mean over images or pages, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

__all__ = ["mean_with_interval"]

_LEVEL = 0.90


def mean_with_interval(
    values: Sequence[float], minimum: float = -inf
) -> dict[str, float | list[float] | None]:
    """Return the mean of values and its 90 % interval, mean ± t(n - 1) s / sqrt(n).

    Args:
        values: one number for each image.
        minimum: the smallest possible value, at which the interval is cut.

    Returns:
        `mean` and `interval90`. The interval is None for a single value; without values, both are None.

    Example:
        >>> summary = mean_with_interval([25.0, 25.2, 25.4])  # 25.2 ± 2.92 * 0.2 / sqrt(3)
        >>> round(summary["mean"], 3), [round(end, 3) for end in summary["interval90"]]
        (25.2, [24.863, 25.537])
    """
    if not values:
        return {"mean": None, "interval90": None}
    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if len(sample) == 1:
        return {"mean": mean, "interval90": None}
    # stdtrit is the quantile of Student's t. scipy.special imports ten times faster than scipy.stats.
    from scipy.special import stdtrit

    half = float(stdtrit(len(sample) - 1, (1 + _LEVEL) / 2)) * float(sample.std(ddof=1)) / sqrt(len(sample))
    return {"mean": mean, "interval90": [max(minimum, mean - half), mean + half]}
