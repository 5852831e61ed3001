"""Usage statistics against scipy and brute force."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from flatvq.errors import FlatvqError
from flatvq.quantize import UsageCounter, code_usage

HISTOGRAMS = st.lists(st.integers(0, 10**6), min_size=1, max_size=60).filter(any)


@settings(max_examples=200, deadline=None)
@given(counts=HISTOGRAMS)
def test_against_scipy(counts):
    usage = code_usage(torch.tensor(counts))
    assert usage.codebook_size == len(counts)
    assert usage.used_codes == np.count_nonzero(counts)
    assert usage.usage == np.count_nonzero(counts) / len(counts)
    assert usage.perplexity == pytest.approx(math.exp(entropy(counts)), rel=1e-9)
    assert usage.effective_bits == pytest.approx(entropy(counts, base=2), abs=1e-9)
    assert 1 - 1e-9 <= usage.perplexity <= usage.used_codes * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.one_of(st.integers(0, 9), st.integers(0, 900)), min_size=1, max_size=9).filter(any))
def test_codes_for_99_by_trying_all_sets(counts):
    needed = next(
        size
        for size in range(1, len(counts) + 1)
        for chosen in combinations(counts, size)
        if Fraction(sum(chosen), sum(counts)) >= Fraction(99, 100)
    )
    assert code_usage(torch.tensor(counts)).codes_for_99 == needed


@pytest.mark.parametrize("count", [1, 7, 10**9])
def test_exactly_99_percent_is_enough(count):
    # 99 codes of 100 are 0.99 exactly; for 300 and 800 the running sum of shares is a little less than that.
    for size in (100, 300, 800, 1000):
        assert code_usage(torch.full((size,), count)).codes_for_99 == size * 99 // 100


@pytest.mark.parametrize("size", [1, 2, 1000, 5793])
def test_uniform_use(size):
    usage = code_usage(torch.full((size,), 12_345))
    assert usage.perplexity == pytest.approx(size, rel=1e-12)
    assert usage.effective_bits == pytest.approx(math.log2(size), abs=1e-12)
    assert (usage.used_codes, usage.usage) == (size, 1.0)


def test_the_sum_of_counts_may_exceed_64_bits():
    usage = code_usage(torch.tensor([2**62, 2**62, 2**62, 0]))
    assert (usage.used_codes, usage.codes_for_99) == (3, 3)
    assert usage.perplexity == pytest.approx(3, rel=1e-12)


def test_full_usage_can_hide_a_collapse():
    # 99 % of the mass on 100 codes of 16,384, the rest spread out: all are used.
    counts = torch.full((16_384,), 8)
    counts[:100] = 99 * 8 * 16_284 // 100
    usage = code_usage(counts)
    assert usage.usage == 1.0
    assert usage.perplexity < 120
    assert usage.codes_for_99 <= 101


def test_pooled_and_not_the_mean_of_batches():
    # Each batch uses one code, all together use four: pooled perplexity 4, mean over batches 1.
    counter = UsageCounter(8)
    for code in range(4):
        counter.add(torch.full((2, 3, 3), code))
    assert counter.counts.tolist() == [18] * 4 + [0] * 4
    assert counter.summary().perplexity == pytest.approx(4.0)
    assert counter.summary() == code_usage(torch.tensor([18] * 4 + [0] * 4))


@settings(max_examples=50, deadline=None)
@given(indices=st.lists(st.integers(0, 6), min_size=1, max_size=80), cut=st.integers(0, 80))
def test_counting_does_not_depend_on_the_batches(indices, cut):
    counter = UsageCounter(7)
    counter.add(torch.tensor(indices[:cut], dtype=torch.int64))
    counter.add(torch.tensor(indices[cut:], dtype=torch.int64))
    assert counter.counts.tolist() == np.bincount(indices, minlength=7).tolist()


def test_nothing_counted_is_no_usage():
    with pytest.raises(FlatvqError, match="no index"):
        UsageCounter(4).summary()


@pytest.mark.parametrize("index", [4, -1, 2**40])
def test_indices_outside_the_codebook_are_refused_and_nothing_is_counted(index):
    counter = UsageCounter(4)
    with pytest.raises(FlatvqError, match=f"index {index} is outside a codebook of 4"):
        counter.add(torch.tensor([[0, 1], [index, 2]]))
    assert counter.counts.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_indices_that_are_no_integers_are_refused(dtype):
    with pytest.raises(FlatvqError, match="not integers"):
        UsageCounter(4).add(torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]
)
def test_integers_of_any_size_and_shape_are_counted(dtype):
    counter = UsageCounter(4)
    for indices in (torch.tensor(3), torch.tensor([[1, 1], [0, 3]]), torch.zeros(0), torch.zeros(2, 0)):
        counter.add(indices.to(dtype))
    assert counter.counts.tolist() == [1, 2, 0, 2]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_tensor_is_refused():
    with pytest.raises(FlatvqError, match="not a tensor"):
        UsageCounter(4).add([0, 1])


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 3)])
@pytest.mark.usefixtures("unchecked")
def test_indices_without_the_axis_of_codebooks_are_refused(shape):
    counter = UsageCounter(4, (3,))
    with pytest.raises(FlatvqError, match=r"\[B, 3, \*grid\]"):
        counter.add(torch.zeros(shape, dtype=torch.int64))
    assert not counter.counts.any()


def test_masked_indices_do_not_count():
    counter = UsageCounter(4)
    counter.add(torch.tensor([[0, -1], [3, 99]]), mask=torch.tensor([[True, False], [True, False]]))
    assert counter.counts.tolist() == [1, 0, 0, 1]
    with pytest.raises(FlatvqError, match="mask"):
        counter.add(torch.tensor([0, 1]), mask=torch.tensor([True]))


def test_indices_without_values_are_refused():
    with pytest.raises(FlatvqError, match="without values"):
        UsageCounter(4).add(torch.zeros(3, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize("size", [0, -1, 2.5, "4", True])
def test_a_size_that_is_no_whole_number_is_refused(size, unchecked):
    with pytest.raises(FlatvqError, match="codebook_size is"):
        UsageCounter(size)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (torch.tensor([3, -1]), "a count is -1"),
        (torch.tensor([0.5, 0.5]), "not integers"),
        (torch.tensor([[1, 2], [0, 0]]), "no index was counted"),
        (torch.ones(1, 1, 2, dtype=torch.int64), "3 axes"),
    ],
)
def test_what_is_no_histogram_is_refused(counts, message):
    with pytest.raises(FlatvqError, match=message):
        code_usage(counts)


@pytest.mark.parametrize("size", [2**50, 2**62])
def test_counts_that_do_not_fit_are_refused(size):
    with pytest.raises(FlatvqError, match=f"the counts of {size} codes take"):
        UsageCounter(size)


@pytest.mark.parametrize("shape", [4, (0,), ("2",)])
def test_an_index_shape_that_is_none_is_refused(shape, unchecked):
    with pytest.raises(FlatvqError, match="index_shape is"):
        UsageCounter(8, shape)


def test_indices_of_a_subclass_are_counted():
    counter = UsageCounter(4)
    counter.add(torch.tensor([1, 1, 3]).as_subclass(type("Named", (torch.Tensor,), {})))
    assert counter.counts.tolist() == [0, 2, 0, 1]
