"""Checks and lookups that the compiled search does on its way: code ranges, code vectors and their error."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from flatvq.errors import NonFiniteError
from flatvq.nearest import BACKENDS, compiled, look_up, nearest_codes
from flatvq.nearest.conditioning import far_from_zero

NOT_FINITE = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])


@pytest.fixture
def medians(fastest):
    return partial(compiled.code_medians, kernels=fastest)


@pytest.fixture
def conditioned_first(monkeypatch):
    """Let the compiled search scale and center beforehand, as the other backends do."""
    return lambda: monkeypatch.setattr(compiled, "code_medians", lambda *arguments: (False, None))


@pytest.fixture(params=[1, 2, 3], ids=lambda threads: f"{threads} threads")
def threads(request):
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(usual)


def away(codes, column, deviations):
    """Move a column's mean so many standard deviations from zero."""
    codes = codes.double()
    spread = codes[:, column].std(correction=0)
    codes[:, column] += deviations * spread - codes[:, column].mean()
    return codes.float()


# Codes of few dimensions are added up several at once, up to 128 numbers.
@pytest.mark.parametrize(
    ("size", "dim"), [(2, 1), (3, 2), (500, 7), (9000, 8), (777, 1), (130, 127), (57, 128), (131, 129)]
)
@pytest.mark.parametrize("deviations", [0.0, -7.9, 8.1, -30.0, 1e6])
def test_coordinates_far_from_zero_are_found_and_their_median(size, dim, deviations, normal, medians):
    codes = away(normal(size, dim), dim - 1, deviations)
    clear, middle = medians(codes)
    assert clear
    if abs(deviations) < 8:
        assert middle is None
        return
    # torch's median is the lower of two, as ours is.
    expected = torch.zeros(dim)
    expected[-1] = codes[:, -1].median()
    assert torch.equal(middle, expected)


@pytest.mark.parametrize("deviations", np.linspace(7.9903, 8.0103, 41).tolist())
def test_the_check_agrees_with_torch_or_leaves_it_to_torch(deviations, normal, medians):
    # Which bits a search gives depends on whether it centres.
    codes = away(normal(1000, 3), 1, deviations)
    clear, middle = medians(codes)
    assert clear == (abs(deviations - 8) > 0.00405)  # a thousandth of the square
    if clear:
        far = torch.zeros(3, dtype=torch.bool) if middle is None else middle != 0
        assert torch.equal(far, far_from_zero(codes))


@pytest.mark.parametrize("place", [0, 5000, 8999])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e16])
def test_a_huge_or_undefined_code_is_noticed(place, value, normal, medians):
    codes = normal(9000, 8)
    assert medians(codes) == (True, None)
    codes[place, 3] = value
    assert medians(codes) == (False, None)


@pytest.mark.parametrize(("size", "dim"), [(1, 1), (43, 3), (259, 7), (20, 100), (5, 130)])
def test_each_code_and_dimension_is_checked(size, dim, normal, medians):
    codes = normal(size, dim)
    for code in range(size):
        for d in range(dim):
            changed = codes.clone()
            changed[code, d] = 1e16
            assert medians(changed) == (False, None)


@pytest.mark.parametrize("value", [0.0, 1e-13, 1.1e15])
def test_codes_without_an_ordinary_size_are_noticed(value, medians):
    assert medians(torch.full((4, 2), value)) == (False, None)


def test_codes_without_spread_are_centred(medians):
    clear, middle = medians(torch.tensor([[3.0, 0.0, -2.0]]).repeat(5, 1))
    assert clear
    assert middle.tolist() == [3, 0, -2]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (5, 3), (13, 8), (700, 8), (3001, 40)])
def test_the_search_finds_the_largest_value(kernels, count, dim, normal):
    vectors, codes = normal(count, dim), normal(30, dim, purpose=1)
    for place in {0, count // 2, count - 1}:
        for value in (-77.5, 88.25):
            vectors[place, -1] = value
            assert compiled.search_within_range(vectors, codes, kernels)[1] == float(vectors.abs().max())


@NOT_FINITE
@pytest.mark.parametrize("count", [1, 13, 700, 3001])
def test_undefined_vectors_are_refused_wherever_they_stand(kernels, value, count, normal):
    codes = normal(30, 4, purpose=1)
    for place in {0, count // 2, count - 1}:
        vectors = normal(count, 4)
        vectors[place, 2] = value
        with pytest.raises(NonFiniteError, match="in the vectors"):
            nearest_codes(vectors, codes, backend=kernels)
        (indices, *_), largest = compiled.search_within_range(vectors, codes, kernels)
        assert not math.isfinite(largest)
        assert int(indices.min()) >= 0
        assert int(indices.max()) < 30


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e16, 1e30])
@pytest.mark.parametrize("only", ["both", "vectors", "codes"])
def test_the_check_on_the_way_decides_as_the_one_beforehand(scale, only, normal, kernels, conditioned_first):
    vectors, codes = normal(300, 5), normal(90, 5, purpose=1)
    vectors *= 1 if only == "codes" else scale
    codes *= 1 if only == "vectors" else scale
    indices = nearest_codes(vectors, codes, backend=kernels)
    conditioned_first()
    assert torch.equal(indices, nearest_codes(vectors, codes, backend=kernels))


@pytest.mark.parametrize(
    ("count", "dim", "size"), [(1, 1, 1), (5, 63, 3), (700, 64, 40), (3001, 65, 300), (20_000, 8, 90)]
)
def test_codes_and_their_error(kernels, method, count, dim, size, normal):
    vectors, codes = normal(count, dim), normal(size, dim, purpose=1)

    def search():
        return compiled.search_within_range(vectors, codes, kernels, (vectors, codes), method)[0]

    indices, chosen, error = search()
    assert torch.equal(
        indices, compiled.search_within_range(vectors, codes, kernels, method=method)[0].indices
    )
    assert torch.equal(chosen, codes[indices])
    assert error == pytest.approx(float((vectors.double() - chosen).square().mean()), rel=1e-6)
    usual = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            assert search().error == error
        finally:
            torch.set_num_threads(usual)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_codes_are_those_of_the_codebook_whatever_the_search_made_of_them(
    scale, offset, normal, kernels, conditioned_first
):
    vectors, codes = normal(300, 6), normal(90, 6, purpose=1)
    for array in (vectors, codes):
        array[:, 2] += offset
        array *= scale
    indices, chosen, error = look_up(vectors, codes, backend=kernels)
    assert torch.equal(chosen, codes[indices])
    if scale == 1:  # others leave the range of float32 when they are squared
        assert error == pytest.approx(float((vectors.double() - chosen).square().mean()), rel=1e-6)
    conditioned_first()
    assert torch.equal(look_up(vectors, codes, backend=kernels)[0], indices)
    assert torch.equal(nearest_codes(vectors, codes, backend=kernels), indices)


def test_strides_and_other_floats_do_not_matter(normal):
    vectors, codes = normal(6, 300).T, normal(6, 90, purpose=1).T
    indices, chosen, error = look_up(vectors, codes)
    for others in ((vectors.contiguous(), codes.contiguous()), (vectors.double(), codes)):
        again = look_up(*others)
        assert torch.equal(again[0], indices)
        assert torch.equal(again[1], chosen)
        assert again[2] == pytest.approx(float(error), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_torch_s_default_type_does_not_matter(offset, normal):
    vectors, codes = normal(300, 6) + offset, normal(90, 6, purpose=1) + offset
    expected = look_up(vectors, codes)
    torch.set_default_dtype(torch.float64)
    try:
        results = look_up(vectors, codes)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_looked_up_has_no_gradient(backend, normal):
    if reason := BACKENDS[backend].missing(torch.device("cpu")):
        pytest.skip(reason)
    vectors, codes = normal(20, 4).requires_grad_(), normal(6, 4, purpose=1).requires_grad_()
    assert not any(result.requires_grad for result in look_up(vectors, codes, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_types_are_looked_up_in_their_own_type(backend, dtype, normal):
    if reason := BACKENDS[backend].missing(torch.device("cpu")):
        pytest.skip(reason)
    vectors, codes = normal(50, 4, dtype=dtype), normal(9, 4, purpose=1, dtype=dtype)
    indices, chosen, error = look_up(vectors, codes, backend=backend)
    assert torch.equal(chosen, codes[indices])
    assert float(error) == pytest.approx(float((vectors - chosen).double().square().mean()), rel=1e-2)


@NOT_FINITE
def test_looking_up_undefined_vectors_is_refused(value, normal):
    vectors = normal(1000, 4)
    vectors[999, 3] = value
    with pytest.raises(NonFiniteError, match="in the vectors"):
        look_up(vectors, normal(30, 4, purpose=1))


def test_nothing_is_looked_up_for_no_vectors(normal):
    indices, chosen, error = look_up(normal(4, 5)[:0], normal(3, 5))
    assert indices.shape == (0,)
    assert chosen.shape == (0, 5)
    assert error == 0
