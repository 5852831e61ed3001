"""Integer weights of symbols: uniform, and from counts.

All arithmetic is on int64, so that every machine computes the same weights. Axes: K symbols.
"""

from __future__ import annotations

from math import log2

import numpy as np

from flatvq.codec.entropy import Integers, total_of

__all__ = ["LARGEST_SUM", "STRONGEST", "fewest_bits", "shrunk", "uniform"]

LARGEST_SUM = 2**36
"""Largest sum of counts: its product with a sum of weights fits int64."""
STRONGEST = 2**32
"""Largest strength of `shrunk`, for the same reason."""


def uniform(size: int) -> Integers:
    """Return equal weights, as far as integers can be equal.

    Args:
        size: K.

    Returns:
        int64 [K] with the sum `total_of(K)`.

    Example:
        >>> uniform(3).tolist()
        [5592405, 5592404, 5592404]
    """
    return _completed(np.full(size, total_of(size) // size, np.int64))


def shrunk(counts: Integers, parent: Integers, strength: int) -> Integers:
    """Estimate weights from counts and from the weights of a wider context.

    The probability of symbol k is (count + strength x parent's probability) / (sum of counts + strength).

    Args:
        counts: int64 [K], not negative, with a sum of at most `LARGEST_SUM`.
        parent: int64 [K], weights.
        strength: the weight of the parent, in counts, from 1 to `STRONGEST`.

    Returns:
        int64 [K] with the sum `total_of(K)`.

    Example:
        >>> shrunk(np.array([6, 0]), uniform(2), strength=2).tolist()
        [14680063, 2097151]
    """
    total = total_of(len(counts))
    return _completed((counts * total + strength * parent) // (int(counts.sum()) + strength))


def fewest_bits(weights: Integers) -> float:
    """Return the bits of the most probable symbol.

    Example:
        >>> fewest_bits(uniform(1024)), fewest_bits(uniform(1))
        (10.0, 0.0)
    """
    return 0.0 if len(weights) == 1 else log2(total_of(0) / (int(weights.max()) + 1))


def _completed(weights: Integers) -> Integers:
    """Add one to the first weights, so that the sum is `total_of(K)`. Rounding down left fewer than K."""
    missing = total_of(len(weights)) - int(weights.sum())
    weights[:missing] += 1
    return weights
