"""The searches that screen, in integers or tiles, and that prune: their bits are those of the plain one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatvq.quantize import native

pytestmark = pytest.mark.slow

SHORT = [name for name in native.variants() if ", " in name]
EACH = pytest.mark.parametrize("variant", SHORT)
SCREENED = pytest.mark.parametrize("variant", [name for name in SHORT if "screened" in name])
TILED = pytest.mark.parametrize("variant", [name for name in SHORT if name.endswith("tiled")])
PRUNED = pytest.mark.parametrize("variant", [name for name in SHORT if name.endswith("pruned")])
# So many steps long is the longest code of integers of 16 bits, and the largest value of those of 8: see
# integers.h.
RANGE, RANGE_OF_BYTES = 32_000, 127


def assert_same_bits(variant, vectors, codes):
    found = native.search_native(vectors, codes, variant).indices
    assert torch.equal(found, native.search_native(vectors, codes, variant.partition(", ")[0]).indices)
    return found


def how(arrays):
    """By what means the compiled search finds what it is asked for."""
    return native.search_native(*arrays).variant.partition(", ")[2]


def brute_force(vectors, codes):
    """The first of the nearest codes, in float64."""
    return (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2).numpy().argmin(axis=1)


@EACH
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 8, 16, 30, 31, 33, 64, 300])
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


def crowded(dim, away):
    """A vector between two codes, whose nearer one loses by all roundings to whole numbers: returns [3, dim].

    All lie on a line. The vector is rounded away from the nearer code, this away from the vector, and the
    other one, on the other side, towards it.
    """
    signs = torch.where(torch.rand(dim, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    vector, near, wrong = 0.51 * signs, -(away + 0.51) * signs, (away + 1.49) * signs
    # So much too near is the other one; the difference, of nearly 1 a dimension, is made up for by a few.
    for d in range(dim):
        if (wrong - vector).norm() > (near - vector).norm() * (1 + 3e-4):
            return vector, near, wrong
        wrong[d] += signs[d]
    raise AssertionError


def assert_rounding_matters(rounded, exact, share):
    """Rounding turns the distances round, by this share of what it can."""
    vector, near, wrong = (array.double() for array in exact)
    differ = [float((array - other).norm()) for array, other in zip(exact, rounded, strict=True)]
    before = (near - vector).norm() - (wrong - vector).norm()
    after = (rounded[1] - rounded[0]).norm() - (rounded[2] - rounded[0]).norm()
    assert before < 0 < share * (2 * differ[0] + differ[1] + differ[2]) < after


@SCREENED
@pytest.mark.parametrize("dim", [40, 200, 1000])
@pytest.mark.parametrize("away", [1, 20])
def test_roundings_that_all_add_up(variant, dim, away):
    # The step is 1, for the code `far` is so long.
    exact = crowded(dim, away)
    assert_rounding_matters([array.round() for array in exact], exact, 0.93)
    far = RANGE_OF_BYTES * torch.ones(dim) if "bytes" in variant else RANGE * torch.eye(dim)[0]
    codes = far.repeat(500, 1)
    codes[7], codes[300] = exact[2], exact[1]
    vectors = exact[0].repeat(50, 1)
    assert brute_force(vectors, codes).tolist() == [300] * 50
    assert assert_same_bits(variant, vectors, codes).tolist() == [300] * 50


@TILED
@pytest.mark.parametrize("dim", [40, 200, 1000])
def test_roundings_to_bfloat16_that_all_add_up(variant, dim):
    # From 1 to 2 they lie 2^-7 apart.
    exact = [1.5 + array / 2**7 for array in crowded(dim, away=20)]
    assert_rounding_matters([array.bfloat16().float() for array in exact], exact, 0.93)
    codes = torch.full((500, dim), -1.5)
    codes[7], codes[300] = exact[2], exact[1]
    vectors = exact[0].repeat(50, 1)
    assert brute_force(vectors, codes).tolist() == [300] * 50
    assert assert_same_bits(variant, vectors, codes).tolist() == [300] * 50


@SCREENED
@pytest.mark.parametrize("dim", [1, 2, 5, 64, 1000, 1 << 14])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(variant, dim, sign):
    # Vectors along the longest code or against it, each in all dimensions or in one.
    ones = torch.ones(1, dim)
    codes = torch.cat([torch.eye(min(dim, 64), dim) * dim**0.5, ones, ones / 2, -ones])
    vectors = sign * torch.cat([codes, codes / 8])
    found = native.search_native(vectors, codes, variant).indices
    scores = vectors.double() @ codes.double().T - codes.double().square().sum(dim=1) / 2
    best = scores.gather(1, found[:, None])[:, 0]
    torch.testing.assert_close(best, scores.max(dim=1).values, rtol=1e-5, atol=1e-5 * dim)
    assert_same_bits(variant, vectors, codes)


@EACH
@pytest.mark.parametrize("most", [16, 120])
@pytest.mark.parametrize("around", [True, False])
def test_whole_numbers(variant, most, around):
    # They and their scores are exact in all but integers; |e|^2 / 2 alone is not in bfloat16, nor in two.
    generator = torch.Generator().manual_seed(0)

    def whole(count):
        return torch.randint(-most, most + 1, (count, 40), generator=generator).float()

    vectors, codes, middle = whole(600), whole(3000), most * torch.ones(40)
    if around:  # so that they are long, and close together
        vectors, codes = middle + vectors % 3, middle + codes % 3
    assert assert_same_bits(variant, vectors, codes).tolist() == brute_force(vectors, codes).tolist()


@EACH
def test_roundings_of_sums_that_all_add_up(variant):
    # In the order of dimensions each product with itself, 1 + 2^-6 + 2^-14, loses 2^-14 once a sum is 2,048
    # or more; the other code's do not: so it is found, and is not the nearest. Tiles add in another order.
    vector = torch.full((1, 8000), 1 + 2.0**-7)
    codes = torch.zeros(400, 8000)
    codes[7], codes[300] = vector[0], 1.0
    assert brute_force(vector, codes).tolist() == [7]
    assert assert_same_bits(variant, vector.repeat(20, 1), codes).tolist() == [300] * 20


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


@PRUNED
@pytest.mark.parametrize("dim", [1, 5, 8, 9, 64])
@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-2])
def test_few_directions(variant, dim, rank, noise, normal):
    # As of trained codebooks: boxes lie in other directions than the dimensions, some are flat or points.
    plane = normal(rank, dim)
    vectors, codes = (
        normal(count, rank, purpose=count) @ plane + noise * normal(count, dim, purpose=count + 1)
        for count in (1500, 2500)
    )
    found = assert_same_bits(variant, vectors, codes)
    assert len(found.unique()) > 100


@PRUNED
@pytest.mark.parametrize("dim", [3, 8, 9, 40])
@pytest.mark.parametrize("across", [0, 1, 2])
def test_the_nearest_code_lies_just_across_a_border(variant, dim, across, normal):
    # On a lattice, whose planes are borders: in its own leaf a vector's nearest code is hardly further away.
    directions = torch.linalg.qr(normal(dim, dim))[0][:3]
    lattice = torch.cartesian_prod(*[torch.arange(-3.0, 4.0)] * 3)
    lower = (lattice[:, across] < 3).nonzero()[:, 0]
    step = torch.eye(3)[across]
    for share in (0.497, 0.503):
        vectors = (lattice[lower] + share * step) @ directions
        expected = lower + (7 ** (2 - across) if share > 0.5 else 0)
        assert torch.equal(assert_same_bits(variant, vectors, lattice @ directions), expected)


@PRUNED
@pytest.mark.parametrize("dim", [2, 8, 30])
@pytest.mark.parametrize("away", [0.0, 7.0, 1e3])
def test_distances_that_rounding_hides(variant, dim, away, normal):
    # Far from zero scores are so large that the nearest code is not told from others; the same one is found.
    centre = away * torch.ones(dim)
    codes = centre + 0.01 * normal(3000, dim)
    for spread in (1e-5, 1e-3, 0.02):
        assert_same_bits(variant, codes[:1000] + spread * normal(1000, dim, purpose=1), codes)
    assert_same_bits(variant, normal(500, dim, purpose=2), codes)


@PRUNED
def test_equal_codes_in_different_leaves(variant, normal):
    # More copies than a leaf holds, so that they are divided; vectors on codes, and half-way between two.
    codes = torch.cat([normal(300, 6).repeat(50, 1), normal(2000, 6, purpose=1)])
    codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    vectors = torch.cat([codes[:500], (codes[:500] + codes[500:1000]) / 2])
    found = assert_same_bits(variant, vectors, codes)
    expected = brute_force(vectors[:500], codes)
    assert found[:500].tolist() == expected.tolist()
    assert (expected < np.arange(500)).any()  # so that there is something to be got wrong


@PRUNED
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(variant, value, normal):
    vectors, codes = normal(700, 12), normal(900, 12, purpose=1)
    vectors[433, 7] = value
    found = native.search_native(vectors, codes, variant)
    assert not found.largest < float("inf")
    assert 0 <= int(found.indices.min()) <= int(found.indices.max()) < len(codes)


def clustered(size, dim, normal, purpose):
    """Of few directions, as what a trained encoder gives."""
    directions = torch.linalg.qr(normal(dim, dim))[0][:3]
    return normal(size, 3, purpose=purpose) @ directions


@pytest.mark.skipif(not SHORT, reason="nothing prunes here")
def test_it_prunes_where_that_pays_and_is_patient_where_not(normal):
    size, dim = 1999, 47  # a shape that no other test has, for what did not pay is remembered by it
    few = clustered(9001, dim, normal, 1), clustered(size, dim, normal, 2)
    many = normal(9001, dim, purpose=3), normal(size, dim, purpose=4)

    def prunes(arrays):
        return how(arrays) == "pruned"

    assert [prunes(arrays) for arrays in (few, many)] == [True, False]
    assert [prunes(few) for _ in range(8)] == [False] * 7 + [True]
    for pause in (7, 15, 31):  # one that tries, and those that do not
        assert [prunes(many) for _ in range(1 + pause)] == [False] * (1 + pause)
    prunes(many)
    assert [prunes(few) for _ in range(64)] == [False] * 63 + [True]
    # A tree that is kept pays for few vectors too.
    vectors, new = clustered(150, dim, normal, 5), clustered(size, dim, normal, 6)
    assert [prunes((vectors, new)) for _ in range(3)] == [False, True, True]


@TILED
def test_tiles_are_taken_where_that_pays_and_else_with_patience(variant, normal):
    size, dim = 701, 45  # a shape that no other test has
    vectors, apart = normal(2001, dim), normal(size, dim, purpose=1)
    close = apart[:1] + 1e-5 * apart  # a tree tells them apart no better than bfloat16
    assert how((vectors, apart)) == how((vectors, close)) == "tiled"
    for pause in (7, 15, 31):
        assert [how((vectors, close)) for _ in range(pause + 1)] == ["screened"] * pause + ["tiled"]
    assert [how((vectors, apart)) for _ in range(65)] == ["screened"] * 63 + ["tiled"] * 2
    new = normal(size, dim, purpose=2)
    assert how((normal(255, dim), new)) == ""
    # Codes that come again are packed already.
    assert [how((normal(count, dim), new)) for count in (32, 31)] == ["tiled", ""]


@TILED
def test_of_few_dimensions_tiles_take_few_codes(variant, normal):
    vectors = normal(2001, 11)
    assert how((vectors, normal(2047, 11, purpose=1))) == "tiled"
    assert how((vectors, normal(2048, 11, purpose=1))) == "screened in bytes"


@pytest.mark.skipif("AVX-512, screened in bytes" not in SHORT, reason="bytes are not multiplied at once here")
def test_bytes_are_taken_where_that_pays_and_else_with_patience(normal):
    size, dim = 1403, 6  # a shape that no other test has
    vectors, apart = normal(2001, dim), normal(size, dim, purpose=1)
    close = apart[:1] + 1e-5 * apart
    assert how((vectors, apart)) == how((vectors, close)) == "screened in bytes"
    for pause in (7, 15):
        found = [how((vectors, close)) for _ in range(pause + 1)]
        assert found == ["screened"] * pause + ["screened in bytes"]
    assert how((vectors, normal(1023, dim, purpose=1))) == "screened"
    new = normal(size, dim, purpose=2)
    assert how((normal(255, dim), new)) == ""
    assert [how((normal(count, dim), new)) for count in (32, 31)] == ["screened in bytes", ""]


@EACH
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_numbers(variant, data):
    dim = data.draw(st.integers(1, 5))
    values = st.floats(-(2.0**40), 2.0**40, width=32)
    count, size = data.draw(st.tuples(st.integers(1, 15), st.integers(1, 40)))
    arrays = (hnp.arrays(np.float32, (length, dim), elements=values) for length in (count, size))
    assert_same_bits(variant, *(torch.from_numpy(data.draw(array)) for array in arrays))


@pytest.mark.skipif(not SHORT, reason="nothing screens here")
@pytest.mark.parametrize("count", [255, 256])
@pytest.mark.parametrize("size", [127, 128, 256])
@pytest.mark.parametrize("dim", [3, 4])
def test_what_is_thought_to_pay_changes_no_bit(count, size, dim, normal):
    vectors, codes = normal(count, dim), normal(size, dim, purpose=1)
    expected = native.search_native(vectors, codes, SHORT[0].partition(", ")[0]).indices
    assert torch.equal(native.search_native(vectors, codes).indices, expected)
