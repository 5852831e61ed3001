"""The search that screens codes in integers: its bits are those of the plain one, whatever is searched."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatvq.quantize import native

SCREENED = [name for name in native.variants() if name.endswith(", screened")]
EACH = pytest.mark.parametrize("variant", SCREENED)
# The longest vector and the longest code are so many steps long: see margin.h.
RANGE = 32_000


def assert_same_bits(variant, vectors, codes):
    found = native.search_native(vectors, codes, variant).indices
    assert torch.equal(found, native.search_native(vectors, codes, variant.partition(", ")[0]).indices)
    return found


def brute_force(vectors, codes):
    """The first of the nearest codes, in float64."""
    return (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2).numpy().argmin(axis=1)


@EACH
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 8, 16, 33, 64, 300])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 127, 128, 129, 255, 256, 257, 1000, 3000])
def test_shapes(variant, dim, size, normal):
    # Around units and groups of codes; the vectors are several blocks, or fewer than are searched at once.
    codes = normal(size, dim)
    for count in (1, 5, 13, 700):
        assert_same_bits(variant, normal(count, dim, purpose=1), codes)


@EACH
@pytest.mark.parametrize("dim", [4, 8, 64])
@pytest.mark.parametrize("spread", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_codes_closer_together_than_steps(variant, dim, spread, normal):
    # A step is 3e-5 of the longest code. From clusters that only rounding in float32 tells apart to such as
    # only the integers do not.
    centres = normal(40, dim).repeat(25, 1)
    codes = centres + spread * normal(1000, dim, purpose=1)
    for vectors in (normal(600, dim, purpose=2), centres[:600] + spread * normal(600, dim, purpose=3)):
        found = assert_same_bits(variant, vectors, codes)
        assert len(found.unique()) > 40


@EACH
@pytest.mark.parametrize("dim", [40, 200, 1000])
def test_roundings_that_all_add_up(variant, dim):
    # The step is 1, for the code `far` is RANGE long. Of two codes along and against `signs`, which the
    # vector is nearly orthogonal to, the nearer loses by all roundings: its own, the other's, the vector's.
    signs = torch.tensor([1.0, -1.0]).repeat(dim // 2)
    size = round(0.998 * RANGE / dim**0.5)
    shorter = torch.full((dim,), size - 1.0)
    shorter[: dim // 10] = size
    vector, near, wrong = size + 0.49 * signs, size * signs + 0.49, 0.51 - shorter * signs
    far = -RANGE * torch.eye(dim)[0]
    codes = far.repeat(500, 1)
    codes[7], codes[300] = wrong, near
    rounded = torch.stack([near, wrong]).double().round()
    scores = rounded @ vector.double().round() - rounded.square().sum(dim=1) / 2
    assert scores[1] - scores[0] > 1.85 * dim**0.5 * RANGE  # the margin has 2.06 instead of 1.85, and more
    vectors = vector.repeat(50, 1)
    assert brute_force(vectors, codes).tolist() == [300] * 50
    assert assert_same_bits(variant, vectors, codes).tolist() == [300] * 50


@EACH
@pytest.mark.parametrize("dim", [1, 2, 5, 64, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(variant, dim, sign):
    # Vectors along the longest code or against it, each in all dimensions or in one.
    codes = torch.cat([torch.eye(dim) * dim**0.5, torch.ones(1, dim), torch.ones(1, dim) / 2])
    vectors = sign * torch.cat([codes, codes / 8])
    found = native.search_native(vectors, codes, variant).indices
    scores = vectors.double() @ codes.double().T - codes.double().square().sum(dim=1) / 2
    best = scores.gather(1, found[:, None])[:, 0]
    torch.testing.assert_close(best, scores.max(dim=1).values, rtol=1e-5, atol=1e-5 * dim)
    assert_same_bits(variant, vectors, codes)


@EACH
@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-20, 1e-12, 1e-6, 1e6, 1e12, 1e15])
@pytest.mark.parametrize("only", ["both", "vectors", "codes"])
def test_any_scale(variant, scale, only, normal):
    vectors, codes = normal(300, 6), normal(200, 6, purpose=1)
    if only != "codes":
        vectors = vectors * scale
    if only != "vectors":
        codes = codes * scale
    assert_same_bits(variant, vectors, codes)


@EACH
@pytest.mark.parametrize("stray", [1e2, 1e5, 1e10, 1e18])
@pytest.mark.parametrize("in_codes", [True, False])
def test_a_stray_huge_value(variant, stray, in_codes, normal):
    # All steps become coarse, or those of one block of vectors.
    vectors, codes = normal(1500, 8), normal(700, 8, purpose=1)
    (codes if in_codes else vectors)[300, 5] = stray
    assert_same_bits(variant, vectors, codes)


@EACH
@pytest.mark.parametrize("count", [7, 1000])
def test_zeros_and_duplicates(variant, count, normal):
    vectors, codes = normal(count, 12), normal(500, 12, purpose=1)
    zeros = torch.zeros(500, 12)
    assert not assert_same_bits(variant, vectors, zeros).any()
    assert not assert_same_bits(variant, zeros, zeros).any()
    assert_same_bits(variant, zeros, codes)
    assert_same_bits(variant, vectors, torch.cat([zeros, codes, zeros]))
    assert not assert_same_bits(variant, vectors, codes[:1].repeat(900, 1)).any()
    assert int(assert_same_bits(variant, vectors, codes.repeat(3, 1)).max()) < 500


@EACH
def test_ties_of_integers_go_to_the_first(variant):
    # More codes than there are points: all scores are exact, and most of them tied.
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-2, 3, (2000, 3), generator=generator).float()
    vectors = torch.randint(-2, 3, (500, 3), generator=generator).float()
    assert assert_same_bits(variant, vectors, codes).tolist() == brute_force(vectors, codes).tolist()


@EACH
def test_a_codebook_of_several_parts(variant, normal):
    # 40,000 codes of 40 dimensions are seven parts; from each some vectors come.
    codes = normal(40_000, 40)
    vectors = codes[::131] + 0.1 * normal(306, 40, purpose=1)
    assert assert_same_bits(variant, vectors, codes).tolist() == list(range(0, 40_000, 131))
    close = codes[:1] + 1e-6 * normal(40_000, 40)
    assert_same_bits(variant, vectors, torch.cat([close[:20_000], codes[:10_000], close[20_000:]]))


@EACH
def test_more_dimensions_than_are_screened(variant, normal):
    vectors, codes = normal(7, 70_000), normal(20, 70_000, purpose=1)
    assert_same_bits(variant, vectors, codes)


@EACH
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_numbers(variant, data):
    dim = data.draw(st.integers(1, 5))
    values = st.floats(-(2.0**40), 2.0**40, width=32)
    count, size = data.draw(st.tuples(st.integers(1, 15), st.integers(1, 40)))
    arrays = (hnp.arrays(np.float32, (length, dim), elements=values) for length in (count, size))
    assert_same_bits(variant, *(torch.from_numpy(data.draw(array)) for array in arrays))


@pytest.mark.skipif(not SCREENED, reason="nothing screens here")
@pytest.mark.parametrize("count", [255, 256])
@pytest.mark.parametrize("size", [127, 128, 256])
@pytest.mark.parametrize("dim", [3, 4])
def test_whether_screening_pays_changes_no_bit(count, size, dim, normal):
    vectors, codes = normal(count, dim), normal(size, dim, purpose=1)
    expected = native.search_native(vectors, codes, SCREENED[0].partition(", ")[0]).indices
    assert torch.equal(native.search_native(vectors, codes).indices, expected)
