"""The search with a tree: its bits are those of the search of all codes, whatever the values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatvq.nearest import compiled


def indices(vectors, codes, kernels, method):
    return compiled.search_within_range(vectors, codes, kernels, method=method)[0].indices


def assert_same_bits(kernels, vectors, codes):
    """Check a tree, and the method that is chosen, against the search of all codes."""
    expected = indices(vectors, codes, kernels, "all codes")
    assert torch.equal(indices(vectors, codes, kernels, "tree"), expected)
    assert torch.equal(indices(vectors, codes, kernels, "automatic"), expected)
    return expected


def brute_force(vectors, codes):
    """The first of the nearest codes, in float64."""
    return (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2).numpy().argmin(axis=1)


@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 33, 64, 300])
@pytest.mark.parametrize("size", [1, 31, 32, 33, 127, 255, 256, 257, 3000])
def test_shapes(kernels, dim, size, normal):
    # Around leaves of codes; the vectors are several chunks, or fewer than are searched at once.
    codes = normal(size, dim)
    for count in (1, 5, 13, 700):
        assert_same_bits(kernels, normal(count, dim, purpose=1), codes)


@pytest.mark.parametrize("dim", [4, 8, 64])
@pytest.mark.parametrize("spread", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_clusters_of_codes(kernels, dim, spread, normal):
    # From clusters whose codes differ by little more than rounding in float32 to wider ones.
    centres = normal(40, dim).repeat(25, 1)
    codes = centres + spread * normal(1000, dim, purpose=1)
    for vectors in (normal(600, dim, purpose=2), centres[:600] + spread * normal(600, dim, purpose=3)):
        indices = assert_same_bits(kernels, vectors, codes)
        assert len(indices.unique()) > 40


@pytest.mark.parametrize("most", [16, 120])
@pytest.mark.parametrize("around", [True, False])
def test_whole_numbers(kernels, most, around):
    # All scores are exact in float32.
    generator = torch.Generator().manual_seed(0)

    def whole(count):
        return torch.randint(-most, most + 1, (count, 40), generator=generator).float()

    vectors, codes, middle = whole(600), whole(3000), most * torch.ones(40)
    if around:  # so that they are long, and close together
        vectors, codes = middle + vectors % 3, middle + codes % 3
    assert assert_same_bits(kernels, vectors, codes).tolist() == brute_force(vectors, codes).tolist()


def test_rounding_of_a_long_sum(kernels):
    # Each product of the vector with itself, 1 + 2^-6 + 2^-14, loses 2^-14 once the sum is 2,048 or more. The
    # products with the other code lose nothing, so that code has the larger score, and is not the nearest.
    vector = torch.full((1, 8000), 1 + 2.0**-7)
    codes = torch.zeros(400, 8000)
    codes[7], codes[300] = vector[0], 1.0
    assert brute_force(vector, codes).tolist() == [7]
    assert assert_same_bits(kernels, vector.repeat(20, 1), codes).tolist() == [300] * 20


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-20, 1e-12, 1e-6, 1e6, 1e12, 1e15])
@pytest.mark.parametrize("only", ["both", "vectors", "codes"])
def test_any_scale(kernels, scale, only, normal):
    vectors, codes = normal(300, 6), normal(200, 6, purpose=1)
    if only != "codes":
        vectors = vectors * scale
    if only != "vectors":
        codes = codes * scale
    assert_same_bits(kernels, vectors, codes)


@pytest.mark.parametrize("stray", [1e2, 1e5, 1e10, 1e18])
@pytest.mark.parametrize("in_codes", [True, False])
def test_a_stray_huge_value(kernels, stray, in_codes, normal):
    vectors, codes = normal(1500, 8), normal(700, 8, purpose=1)
    (codes if in_codes else vectors)[300, 5] = stray
    assert_same_bits(kernels, vectors, codes)


@pytest.mark.parametrize("count", [7, 1000])
def test_zeros_and_duplicates(kernels, count, normal):
    vectors, codes = normal(count, 12), normal(500, 12, purpose=1)
    zeros = torch.zeros(500, 12)
    assert not assert_same_bits(kernels, vectors, zeros).any()
    assert not assert_same_bits(kernels, zeros, zeros).any()
    assert_same_bits(kernels, zeros, codes)
    assert_same_bits(kernels, vectors, torch.cat([zeros, codes, zeros]))
    assert not assert_same_bits(kernels, vectors, codes[:1].repeat(900, 1)).any()
    assert int(assert_same_bits(kernels, vectors, codes.repeat(3, 1)).max()) < 500


def test_ties_of_integers_go_to_the_first(kernels):
    # More codes than there are points: all scores are exact, and most of them tied.
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-2, 3, (2000, 3), generator=generator).float()
    vectors = torch.randint(-2, 3, (500, 3), generator=generator).float()
    assert assert_same_bits(kernels, vectors, codes).tolist() == brute_force(vectors, codes).tolist()


def test_a_codebook_of_several_parts(kernels, normal):
    # 40,000 codes of 40 dimensions are seven parts; from each some vectors come.
    codes = normal(40_000, 40)
    vectors = codes[::131] + 0.1 * normal(306, 40, purpose=1)
    assert assert_same_bits(kernels, vectors, codes).tolist() == list(range(0, 40_000, 131))
    close = codes[:1] + 1e-6 * normal(40_000, 40)
    assert_same_bits(kernels, vectors, torch.cat([close[:20_000], codes[:10_000], close[20_000:]]))


def test_many_dimensions(kernels, normal):
    vectors, codes = normal(7, 70_000), normal(20, 70_000, purpose=1)
    assert_same_bits(kernels, vectors, codes)


@pytest.mark.parametrize("dim", [1, 5, 8, 9, 64])
@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-2])
def test_few_directions(kernels, dim, rank, noise, normal):
    # As of trained codebooks: boxes lie in other directions than the dimensions, some are flat or points.
    plane = normal(rank, dim)
    vectors, codes = (
        normal(count, rank, purpose=count) @ plane + noise * normal(count, dim, purpose=count + 1)
        for count in (1500, 2500)
    )
    indices = assert_same_bits(kernels, vectors, codes)
    assert len(indices.unique()) > 100


@pytest.mark.parametrize("dim", [3, 8, 9, 40])
@pytest.mark.parametrize("across", [0, 1, 2])
def test_the_nearest_code_lies_just_across_a_border(kernels, dim, across, normal):
    # On a lattice, whose planes are borders: in its own leaf a vector's nearest code is hardly further away.
    directions = torch.linalg.qr(normal(dim, dim))[0][:3]
    lattice = torch.cartesian_prod(*[torch.arange(-3.0, 4.0)] * 3)
    lower = (lattice[:, across] < 3).nonzero()[:, 0]
    step = torch.eye(3)[across]
    for share in (0.497, 0.503):
        vectors = (lattice[lower] + share * step) @ directions
        expected = lower + (7 ** (2 - across) if share > 0.5 else 0)
        assert torch.equal(assert_same_bits(kernels, vectors, lattice @ directions), expected)


@pytest.mark.parametrize("dim", [2, 8, 30])
@pytest.mark.parametrize("away", [0.0, 7.0, 1e3])
def test_distances_that_rounding_hides(kernels, dim, away, normal):
    # Far from zero, float32 scores cannot separate the nearest codes; both searches must return the same one.
    centre = away * torch.ones(dim)
    codes = centre + 0.01 * normal(3000, dim)
    for spread in (1e-5, 1e-3, 0.02):
        assert_same_bits(kernels, codes[:1000] + spread * normal(1000, dim, purpose=1), codes)
    assert_same_bits(kernels, normal(500, dim, purpose=2), codes)


def test_equal_codes_in_different_leaves(kernels, normal):
    # More copies than a leaf holds, so that they are divided; vectors on codes, and half-way between two.
    codes = torch.cat([normal(300, 6).repeat(50, 1), normal(2000, 6, purpose=1)])
    codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    vectors = torch.cat([codes[:500], (codes[:500] + codes[500:1000]) / 2])
    indices = assert_same_bits(kernels, vectors, codes)
    expected = brute_force(vectors[:500], codes)
    assert indices[:500].tolist() == expected.tolist()
    assert (expected < np.arange(500)).any()  # so that there is something to be got wrong


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(kernels, method, value, normal):
    vectors, codes = normal(700, 12), normal(900, 12, purpose=1)
    vectors[433, 7] = value
    result, largest = compiled.search_within_range(vectors, codes, kernels, method=method)
    assert not largest < float("inf")
    assert 0 <= int(result.indices.min()) <= int(result.indices.max()) < len(codes)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_numbers(kernels, data):
    dim = data.draw(st.integers(1, 5))
    values = st.floats(-(2.0**40), 2.0**40, width=32)
    count, size = data.draw(st.tuples(st.integers(1, 15), st.integers(1, 40)))
    arrays = (hnp.arrays(np.float32, (length, dim), elements=values) for length in (count, size))
    assert_same_bits(kernels, *(torch.from_numpy(data.draw(array)) for array in arrays))


@pytest.mark.parametrize(("count", "dim"), [(16_384, 8), (2_048, 64), (2_047, 64)])
@pytest.mark.parametrize("size", [255, 256, 1000])
@pytest.mark.parametrize("rank", [2, 64])
def test_choosing_a_method_changes_no_bit(kernels, count, dim, size, rank, normal):
    # On both sides of the bounds of the rule, where a tree helps and where it does not.
    plane = normal(min(rank, dim), dim)
    vectors, codes = (normal(rows, len(plane), purpose=rows) @ plane for rows in (count, size))
    assert_same_bits(kernels, vectors, codes)
