"""Weights of symbols from integer logits: a softmax without floating-point numbers.

A logit counts steps of 1/64 of an octave: 64 more double the probability. Powers of two come from a table of
integers, so every machine computes the same weights. Axes: N cells, K symbols.
"""

from __future__ import annotations

from functools import cache, reduce
from math import isqrt

import numpy as np

from flatvq.codec.entropy import Integers, total_of
from flatvq.codec.weights import fewest_bits

__all__ = ["STEPS", "fewest_bits_of_choice", "softmax"]

STEPS = 64
"""Steps of logits in an octave, a power of two."""

_OCTAVES = 16
_BITS = 24


def softmax(logits: Integers) -> Integers:
    """Return the weights of symbols.

    A logit more than 16 octaves below the largest one counts as 16 octaves below.

    Args:
        logits: int64 [N, K], in steps of 1/64 of an octave, with K at most 65,536.

    Returns:
        int64 [N, K]; each row has the sum `flatvq.codec.entropy.total_of(K)`.

    Example:
        >>> softmax(np.array([[64, 0]])).tolist()
        [[11184810, 5592404]]
    """
    size = logits.shape[1]
    below = logits.max(axis=1, keepdims=True) - logits
    powers = _powers()[np.minimum(below, STEPS * _OCTAVES)]
    weights: Integers = powers * total_of(size) // powers.sum(axis=1, keepdims=True)
    # Rounding down left fewer than K in each row, which the first symbols get.
    missing = total_of(size) - weights.sum(axis=1, keepdims=True)
    weights += np.arange(size) < missing
    return weights


@cache
def fewest_bits_of_choice(size: int) -> float:
    """Return the bits of a symbol with the largest probability that `softmax` gives to one of `size`.

    Example:
        >>> fewest_bits_of_choice(1), round(fewest_bits_of_choice(64), 5)
        (0.0, 0.00139)
    """
    logits = np.full((1, size), -STEPS * _OCTAVES, np.int64)
    logits[0, 0] = 0
    return fewest_bits(softmax(logits)[0])


@cache
def _powers() -> Integers:
    """Return floor(2^(24 - n / 64)) for n from 0: the 64th root of 2^(24 x 64 - n) is six square roots."""
    roots = STEPS.bit_length() - 1
    exact = [1 << _BITS * STEPS - step for step in range(STEPS * _OCTAVES + 1)]
    return np.array([reduce(lambda value, _: isqrt(value), range(roots), value) for value in exact])
