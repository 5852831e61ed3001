"""Indices of large codebooks as several symbols: lookup-free and scalar quantizers have up to 2^63 codes."""

from __future__ import annotations

from math import prod

import numpy as np

from flatvq.codec.entropy import MOST_SYMBOLS, Integers

__all__ = ["join", "sizes_of", "split"]


def sizes_of(codebook_size: int) -> tuple[int, ...]:
    """Return the number of values of each digit of an index, least significant first.

    An index of at most `MOST_SYMBOLS` values is one digit. Otherwise the digits have about equally many
    values.

    Args:
        codebook_size: K.

    Example:
        >>> sizes_of(2435), sizes_of(2**18)
        ((2435,), (512, 512))
    """
    count = 1
    while MOST_SYMBOLS**count < codebook_size:
        count += 1
    base = round(codebook_size ** (1 / count))
    while base**count < codebook_size:
        base += 1
    lower = (base,) * (count - 1)
    return (*lower, -(-codebook_size // prod(lower)))


def split(indices: Integers, sizes: tuple[int, ...]) -> list[Integers]:
    """Split indices into digits.

    Example:
        >>> [digit.tolist() for digit in split(np.array([513]), (512, 512))]
        [[1], [1]]
    """
    digits = []
    for size in sizes:
        digits.append(indices % size)
        indices = indices // size
    return digits


def join(digits: list[Integers], sizes: tuple[int, ...]) -> Integers:
    """Join digits to indices. A combination that `split` never returns may give any number of 64 bits.

    Example:
        >>> join([np.array([1]), np.array([1])], (512, 512)).tolist()
        [513]
    """
    indices = np.zeros_like(digits[0])
    for digit, size in zip(reversed(digits), reversed(sizes), strict=True):
        indices = indices * size + digit
    return indices
