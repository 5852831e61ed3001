"""A collapsed level is recognized at any codebook size."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flatvq.records.run import LevelMetrics
from flatvq.study.collapse import collapse_of, has_collapsed

GRID = (8, 8)


def level(size: int, perplexity: float, grid: tuple[int, int] = GRID) -> LevelMetrics:
    return LevelMetrics(
        grid=grid, codebook_size=size, code_dim=4, usage=1.0, perplexity=perplexity, used_codes=size,
        codes_for_99=size, quantization_error=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 4, 8, 10, 11, 16, 512, 65536])
def test_one_used_code_is_a_collapse_at_any_size(size: int) -> None:
    assert collapse_of(level(size, 1.0), images=10_000) == "codes"
    assert collapse_of(level(size, float(size)), images=10_000) is None


@given(size=st.integers(2, 2**20), share=st.floats(0, 1))
def test_a_level_that_has_not_collapsed_has_a_third_of_its_bits(size: int, share: float) -> None:
    perplexity = size**share
    assume(abs(share - 0.3) > 1e-6)
    assume(abs(perplexity - 0.1 * size) > 1e-6 * size)
    healthy = collapse_of(level(size, perplexity), images=2**20) is None
    assert healthy == (log2(perplexity) >= 0.3 * log2(size) and perplexity >= 0.1 * size)


def test_a_split_with_fewer_cells_than_codes_is_judged_by_its_cells() -> None:
    # One image of 4 cells has at most 4 different codes.
    assert collapse_of(level(512, 4.0, (2, 2)), images=1) is None
    assert collapse_of(level(512, 1.3, (2, 2)), images=1) == "codes"


def test_a_level_without_bits_is_not_judged() -> None:
    assert collapse_of(level(1, 1.0), images=100) is None
    assert collapse_of(level(512, 1.0, (1, 1)), images=1) is None


def test_leniency_lowers_both_thresholds() -> None:
    for size, between in ((512, 40.0), (4, 1.4)):
        assert has_collapsed(between, size, GRID, 100)
        assert not has_collapsed(between, size, GRID, 100, leniency=2.0)
