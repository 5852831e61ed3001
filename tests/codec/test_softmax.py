from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatvq.codec.entropy import Reader, Writer, symbol_model, total_of
from flatvq.codec.softmax import _powers, fewest_bits_of_choice, softmax
from flatvq.codec.weights import fewest_bits


def test_powers_of_two_are_rounded_down_exactly() -> None:
    for number, power in enumerate(_powers().tolist()):
        exact = 2 ** (24 * 64 - number)  # the 64th power of 2^(24 - number / 64)
        assert power**64 <= exact < (power + 1) ** 64


@given(size=st.integers(1, 300), seed=st.integers(0, 10**6), spread=st.sampled_from([1, 100, 10**6]))
def test_weights_are_those_of_a_softmax(size: int, seed: int, spread: int) -> None:
    logits = np.random.default_rng(seed).integers(-spread, spread + 1, (5, size))
    weights = softmax(logits)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == total_of(size)).all()
    below = np.minimum(logits.max(axis=1, keepdims=True) - logits, 16 * 64)
    shares = np.exp2(-below / 64)
    shares /= shares.sum(axis=1, keepdims=True)
    # Powers are rounded down by less than 1/256, and weights by less than one.
    assert np.abs(weights - shares * total_of(size)).max() <= 2 + shares.max() * total_of(size) / 256


def test_a_weight_is_the_fraction_of_its_power_rounded_down() -> None:
    logits = np.array([[0, -64, -32, -5000]])
    powers = [2**24, 2**23, int(2**23.5), 2**8]
    exact = [Fraction(power * total_of(4), sum(powers)) for power in powers]
    down = [int(share) for share in exact]
    missing = total_of(4) - sum(down)
    assert softmax(logits)[0].tolist() == [share + (k < missing) for k, share in enumerate(down)]


@pytest.mark.parametrize("size", [2, 39, 256, 65536])
def test_no_symbol_takes_fewer_bits_than_the_bound(size: int) -> None:
    random = np.random.default_rng(size)
    for favoured in (0, size - 1):
        logits = random.integers(-4000, -2000, (1, size))
        logits[0, favoured] = 10**6
        assert fewest_bits(softmax(logits)[0]) >= fewest_bits_of_choice(size) - 1e-9


@given(size=st.integers(1, 60), count=st.integers(0, 50), seed=st.integers(0, 10**6))
def test_symbols_with_weights_of_their_own_are_coded_as_one_by_one(size: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = softmax(random.integers(-900, 900, (count, size)))
    symbols = random.integers(0, size, count)
    together, one_by_one = Writer(), Writer()
    together.code_each(symbols, weights)
    for number in range(count):
        one_by_one.code(symbols[number : number + 1], symbol_model(weights[number]))
    stream = together.finish()
    assert stream == one_by_one.finish()
    assert Reader(stream).code_each(np.zeros(count, np.int64), weights).tolist() == symbols.tolist()
