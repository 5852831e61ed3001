"""What the compiled search keeps of codebooks: it is taken for no others, and has a bound."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from flatvq.quantize import Ema, VectorQuantizer, native

pytestmark = pytest.mark.skipif(not native.instructions(), reason="the compiled search is not there")
VARIANTS = pytest.mark.parametrize("variant", native.variants())
LIMIT = 64 * 2**20


def brute_force(vectors, codes):
    """The first of the nearest codes, in float64."""
    return (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2).argmin(dim=1)


def assert_found(vectors, codes, variant="", times=3):
    for _ in range(times):
        assert torch.equal(native.search_native(vectors, codes, variant).indices, brute_force(vectors, codes))


@VARIANTS
def test_a_value_that_changes_in_place_is_seen(variant, normal):
    # Each value of a code, the first and last codes among them: no few of them could tell.
    vectors, codes = normal(70, 6), normal(600, 6, purpose=1)
    assert_found(vectors, codes, variant)
    for code, dimension in ((0, 0), (0, 5), (1, 1), (299, 3), (300, 2), (599, 0), (599, 5)):
        codes[code, dimension] += 0.5
        target = codes[code].clone()
        target[dimension] += 0.01
        near = torch.cat([vectors, target[None]])
        assert_found(near, codes, variant, times=1)
        assert native.search_native(near, codes, variant).indices[-1] == code


@VARIANTS
def test_one_bit_makes_another_codebook(variant):
    # The vector lies between the codes 1 and 2, nearer to the second of them until a bit of that is turned.
    codes = torch.zeros(400, 5)
    codes[:, 1] = torch.arange(400.0)
    codes[1, 1] -= 2.0**-21
    vectors = torch.tensor([[0.0, 1.5, 0.0, 0.0, 0.0]])
    assert_found(vectors, codes, variant)
    turned = codes.clone()
    turned.view(torch.int32)[2, 1] ^= 1 << 2
    assert float(turned[2, 1]) == 2 + 2.0**-20
    for each, expected in ((codes, 2), (turned, 1)) * 3:
        assert native.search_native(vectors, each, variant).indices.tolist() == [expected]


@VARIANTS
def test_codebooks_in_turn(variant, normal):
    # More of them than are kept or recognized, and pairs that a few of their values do not tell apart.
    vectors = normal(40, 7)
    codebooks = [normal(300, 7, purpose=purpose) for purpose in range(1, 71)]
    codebooks += [codes.clone() for codes in codebooks[:9]]
    for codes in codebooks[-9:]:
        codes[17] = vectors[3]
    for _ in range(3):
        for codes in codebooks:
            assert_found(vectors, codes, variant, times=1)
    for first, second in pairwise(codebooks[:4] + codebooks[-9:-5]):
        for codes in (first, second, first, second):
            assert_found(vectors, codes, variant, times=1)


def test_dimensions_are_told_apart():
    # Of the same mark, and of the same values as far as the smaller one goes.
    small, large = torch.zeros(400, 5), torch.zeros(400, 6)
    large[399, 3] = 1.0
    vectors = torch.eye(6)[3:4]
    for _ in range(3):
        assert_found(vectors[:, 1:], small, times=1)
        assert native.search_native(vectors, large).indices.tolist() == [399]


def test_what_changed_is_kept_no_longer(normal):
    vectors, codes = normal(50, 9), normal(500, 9, purpose=1)
    assert_found(vectors, codes)
    kept = native.kept_bytes()
    for _ in range(20):
        codes[0, 1] += 0.5  # by which it is not recognized
        assert_found(vectors, codes)
        assert native.kept_bytes() == kept


def test_equal_codes_elsewhere_in_memory_are_the_same(normal):
    vectors, codes = normal(50, 9), normal(500, 9, purpose=1)
    assert_found(vectors, codes)
    kept = native.kept_bytes()
    for _ in range(3):
        assert_found(vectors, codes.clone(), times=1)
    assert native.kept_bytes() == kept


def test_there_is_a_bound(normal):
    # Of 1.5 MiB each, and of more than may be kept in all.
    vectors = normal(3, 64)
    for purpose in range(1, 40):
        assert_found(vectors, normal(3000, 64, purpose=purpose), times=2)
        assert 0 < native.kept_bytes() <= LIMIT
    kept, large = native.kept_bytes(), normal(150_000, 64)
    for _ in range(3):
        found = native.search_native(large[-3:], large).indices
        assert found.tolist() == [149_997, 149_998, 149_999]
    assert native.kept_bytes() == kept
    for rows in (40_000, 50_000, 60_000):  # any two of them together are too much
        for _ in range(2):
            assert native.search_native(large[:3], large[:rows]).indices.tolist() == [0, 1, 2]
            assert native.kept_bytes() <= LIMIT


def test_nothing_is_kept_of_codes_in_training(normal):
    quantizer = VectorQuantizer(600, 8, update=Ema(decay=0.9), seed=3)
    for step in range(4):
        quantizer(normal(2000, 8, purpose=step))
    kept = native.kept_bytes()
    for step in range(4, 12):
        quantizer(normal(2000, 8, purpose=step))
    assert native.kept_bytes() == kept
    quantizer.eval()
    for _ in range(2):
        quantizer(normal(2000, 8))
    assert native.kept_bytes() > 0


def test_threads_that_search_at_once(normal):
    vectors = normal(60, 8)
    codebooks = [normal(700, 8, purpose=purpose) for purpose in range(1, 6)]
    expected = [brute_force(vectors, codes) for codes in codebooks]

    def search(turn):
        which = turn % len(codebooks)
        return torch.equal(native.search_native(vectors, codebooks[which]).indices, expected[which])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(search, range(400)))
