from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatvq.codec.digits import join, sizes_of, split
from flatvq.codec.entropy import MOST_SYMBOLS, total_of
from flatvq.codec.weights import LARGEST_SUM, STRONGEST, fewest_bits, shrunk, uniform


@given(
    counts=st.lists(st.integers(0, LARGEST_SUM // 60), min_size=1, max_size=60),
    strength=st.integers(1, STRONGEST - 1),
    parent=st.lists(st.integers(0, 1000), min_size=60, max_size=60),
)
def test_shrunk_weights_are_those_of_unbounded_integers(
    counts: list[int], strength: int, parent: list[int]
) -> None:
    size = len(counts)
    total = 2**24 - size
    above = [int(value) for value in shrunk(np.array(parent[:size]), uniform(size), 1)]
    expected = [
        (n * total + strength * q) // (sum(counts) + strength) for n, q in zip(counts, above, strict=True)
    ]
    for place in range(total - sum(expected)):
        expected[place] += 1
    weights = shrunk(np.array(counts), np.array(above), strength)
    assert weights.tolist() == expected
    assert weights.sum() == total
    assert weights.min() >= 0


@pytest.mark.parametrize("size", [1, 2, 3, 2435, MOST_SYMBOLS])
def test_uniform_weights_cost_the_nominal_bits(size: int) -> None:
    weights = uniform(size)
    assert weights.sum() == total_of(size)
    bits = -np.log2((weights + 1) / 2**24)
    assert np.abs(bits - np.log2(size)).max() <= 0.01 * np.log2(size)
    assert fewest_bits(weights) == pytest.approx(bits.min())


@given(st.integers(1, 2**63), st.data())
def test_digits_of_an_index_cost_its_nominal_bits(codebook_size: int, data: st.DataObject) -> None:
    sizes = sizes_of(codebook_size)
    assert max(sizes) <= MOST_SYMBOLS
    nominal = float(np.log2(float(codebook_size)))
    assert sum(np.log2(sizes)) <= 1.01 * nominal + 1e-9
    indices = np.array([0, codebook_size - 1, data.draw(st.integers(0, codebook_size - 1))])
    digits = split(indices, sizes)
    assert all(digit.max() < size for digit, size in zip(digits, sizes, strict=True))
    assert join(digits, sizes).tolist() == indices.tolist()


def test_digits_beyond_the_codebook_never_join_to_one_of_its_indices() -> None:
    size = 2**63
    sizes = sizes_of(size)
    (joined,) = join([np.array([each - 1]) for each in sizes], sizes)
    exact = 0
    for each in reversed(sizes):
        exact = exact * each + each - 1
    assert (exact < size) == (0 <= joined < size)
