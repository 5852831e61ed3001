"""Counts and sums of each code's vectors against a plain NumPy loop: every backend returns the same bits."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flatvq import nearest
from flatvq.errors import FlatvqError
from flatvq.nearest import SUM_BACKENDS, sum_backend_for


def by_numpy(vectors, indices, size):
    sums = np.zeros((size, vectors.shape[1]), np.float32)
    np.add.at(sums, indices.numpy(), vectors.numpy())  # one vector after the other
    return sums


@pytest.fixture(params=["compiled", "torch"])
def code_sums(request):
    """The sums of each backend that adds in a plain loop's order."""
    if reason := SUM_BACKENDS[request.param].missing(torch.device("cpu"), torch.float32):
        pytest.skip(reason)
    return partial(nearest.code_sums, backend=request.param)


@pytest.mark.parametrize(
    ("count", "size", "dim"),
    [(1, 1, 1), (0, 3, 2), (500, 7, 3), (9000, 40, 17), (5000, 1, 64), (3000, 4000, 33)],
)
def test_the_bits_are_those_of_a_plain_loop(count, size, dim, normal, code_sums):
    vectors = normal(count, dim)
    indices = torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(1))
    usual = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            counts, sums = code_sums(vectors, indices, size)
        finally:
            torch.set_num_threads(usual)
        assert np.array_equal(sums.numpy(), by_numpy(vectors, indices, size))
        assert counts.tolist() == np.bincount(indices.numpy(), minlength=size).tolist()


def test_strides_do_not_matter(normal, code_sums):
    vectors = normal(8, 300).T
    indices = torch.arange(600)[::2] % 5
    assert np.array_equal(code_sums(vectors, indices, 5)[1].numpy(), by_numpy(vectors, indices, 5))


@given(st.lists(st.integers(0, 4), max_size=30))
def test_every_vector_is_counted_once(codes):
    counts, sums = nearest.code_sums(torch.ones(len(codes), 2), torch.tensor(codes, dtype=torch.int64), 5)
    assert sums.tolist() == [[count, count] for count in counts.tolist()]
    assert float(counts.sum()) == len(codes)


def test_an_index_beyond_the_codebook_is_refused(normal, code_sums):
    with pytest.raises(FlatvqError, match="index 5 is beyond a codebook of 5"):
        code_sums(normal(3, 2), torch.tensor([0, 5, 1]), 5)


def test_the_fastest_backend_that_can_add_is_chosen(monkeypatch):
    cpu = torch.device("cpu")
    assert sum_backend_for(cpu, torch.float64) == "torch"
    expected = "torch" if SUM_BACKENDS["compiled"].missing(cpu, torch.float32) else "compiled"
    assert sum_backend_for(cpu, torch.float32) == expected
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    assert sum_backend_for(cpu, torch.float32) == "torch"


def test_a_backend_that_cannot_add_is_refused(normal):
    with pytest.raises(FlatvqError, match=r"'triton' cannot run here: .*use 'torch'"):
        nearest.code_sums(normal(3, 2), torch.tensor([0, 5, 1]), 6, backend="triton")
