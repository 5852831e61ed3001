"""Counts and sums of each code's vectors, beside NumPy's plain loop: the same bits, whatever adds them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.quantize import sums
from flatvq.quantize.native import instructions


def by_numpy(vectors, indices, size):
    found = np.zeros((size, vectors.shape[1]), np.float32)
    np.add.at(found, indices.numpy(), vectors.numpy())  # one vector after the other
    return found


@pytest.fixture(params=[True, False], ids=["compiled", "torch"])
def way(request, monkeypatch):
    if request.param and not instructions():
        pytest.skip("nothing is compiled here")
    monkeypatch.setattr(sums, "instructions", lambda: "some" if request.param else "")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("count", "size", "dim"),
    [(1, 1, 1), (0, 3, 2), (500, 7, 3), (9000, 40, 17), (5000, 1, 64), (3000, 4000, 33)],
)
def test_the_bits_are_those_of_a_plain_loop(count, size, dim, normal):
    vectors = normal(count, dim)
    indices = torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(1))
    usual = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            counts, found = sums.code_sums(vectors, indices, size)
        finally:
            torch.set_num_threads(usual)
        assert np.array_equal(found.numpy(), by_numpy(vectors, indices, size))
        assert counts.tolist() == np.bincount(indices.numpy(), minlength=size).tolist()


@pytest.mark.usefixtures("way")
def test_strides_do_not_matter(normal):
    vectors = normal(8, 300).T
    indices = torch.arange(600)[::2] % 5
    assert np.array_equal(sums.code_sums(vectors, indices, 5)[1].numpy(), by_numpy(vectors, indices, 5))


@given(st.lists(st.integers(0, 4), max_size=30))
def test_every_vector_is_counted_once(codes):
    counts, found = sums.code_sums(torch.ones(len(codes), 2), torch.tensor(codes, dtype=torch.int64), 5)
    assert found.tolist() == [[count, count] for count in counts.tolist()]
    assert float(counts.sum()) == len(codes)


@pytest.mark.usefixtures("way")
def test_an_index_beyond_the_codebook_is_refused(normal):
    with pytest.raises(FlatvqError, match="index 5 is beyond a codebook of 5"):
        sums.code_sums(normal(3, 2), torch.tensor([0, 5, 1]), 5)
