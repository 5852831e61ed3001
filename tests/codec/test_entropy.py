from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatvq.codec.entropy import SLACK_BITS, Reader, Writer, symbol_model, total_of
from flatvq.codec.weights import shrunk, uniform
from flatvq.errors import FlatvqError


def drawn_weights(size: int, seed: int, skew: float = 1.0) -> np.ndarray:
    counts = np.floor(np.random.default_rng(seed).gamma(skew, 1000, size)).astype(np.int64)
    return shrunk(counts, uniform(size), strength=1)


def coded(symbols: np.ndarray, weights: np.ndarray) -> bytes:
    writer = Writer()
    writer.code(symbols, symbol_model(weights))
    return writer.finish()


def information(symbols: np.ndarray, weights: np.ndarray) -> float:
    """Return the bits of symbols, computed from the definition of the probabilities."""
    return float(-np.log2((weights[symbols] + 1) / 2**24).sum())


@given(
    size=st.integers(1, 5000),
    count=st.integers(0, 400),
    seed=st.integers(0, 2**32 - 1),
    skew=st.floats(0.01, 5),
)
def test_streams_hold_the_symbols_in_fewest_bytes(size: int, count: int, seed: int, skew: float) -> None:
    weights = drawn_weights(size, seed, skew)
    symbols = np.random.default_rng(seed).choice(size, count, p=(weights + 1) / 2**24)
    stream = coded(symbols, weights)
    assert np.array_equal(Reader(stream).code(np.zeros(count, np.int64), symbol_model(weights)), symbols)
    # The last symbol is known to a byte, and its final interval holds a point with one more bit.
    assert len(stream) <= (information(symbols, weights) + 1) / 8 + 1


def test_streams_are_within_half_a_byte_of_their_information_on_average() -> None:
    weights = drawn_weights(700, 0)
    random = np.random.default_rng(1)
    excess = []
    for _ in range(500):
        symbols = random.choice(700, 200, p=(weights + 1) / 2**24)
        excess.append(len(coded(symbols, weights)) - information(symbols, weights) / 8)
    assert -0.1 < np.mean(excess) < 0.6


def test_golden_bytes() -> None:
    weights = np.array([9_000_000, 5_000_000, 2_777_210, 1, 0])
    assert weights.sum() == total_of(5)
    symbols = np.array([0, 1, 2, 0, 0, 4, 3, 1] * 6)
    assert coded(symbols, weights).hex() == (
        "6dc565648df58e3fe58945e4fffc382e5074332dfb9b580962d616bfe4411806a6376add94ddaf98fff9"
    )


@pytest.mark.parametrize("size", [2, 3, 1000, 2435, 65536])
def test_float32_and_float64_weights_give_the_same_words(size: int) -> None:
    weights = drawn_weights(size, 5, 0.1)
    symbols = np.random.default_rng(6).integers(0, size, 3000, dtype=np.int32)
    words = []
    for dtype in (np.float32, np.float64):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(symbols, constriction.stream.model.Categorical(weights.astype(dtype), perfect=False))
        words.append(encoder.get_compressed().astype(">u4").tobytes())
    assert words[0] == words[1]
    stream = coded(symbols.astype(np.int64), weights)
    # Our stream differs from these words in how the last ones are shortened only.
    assert words[0].startswith(stream[:-8])


def test_several_models_share_a_stream() -> None:
    first, second = drawn_weights(4, 0), drawn_weights(300, 1)
    writer = Writer()
    parts = [(np.array([0, 3]), first), (np.array([299, 7]), second), (np.array([2]), first)]
    for symbols, weights in parts:
        writer.code(symbols, symbol_model(weights))
    reader = Reader(writer.finish())
    for symbols, weights in parts:
        assert reader.code(np.zeros_like(symbols), symbol_model(weights)).tolist() == symbols.tolist()


def test_many_of_the_first_symbol_are_no_empty_stream() -> None:
    """Its interval starts at zero, so all bytes are zero; a reader refuses a stream that is too short."""
    weights = drawn_weights(300, 2)
    symbols = np.zeros(500, np.int64)
    assert 8 * len(coded(symbols, weights)) >= information(symbols, weights) - SLACK_BITS


def test_a_stream_that_is_shorter_than_its_symbols_is_refused() -> None:
    weights = np.tile(uniform(300), (500, 1))
    writer = Writer()
    writer.code_each(np.arange(500) % 300, weights)
    stream = writer.finish()
    assert len(Reader(stream).code_each(np.zeros(500, np.int64), weights)) == 500
    with pytest.raises(FlatvqError, match="too short for its symbols"):
        Reader(stream[:-9]).code_each(np.zeros(500, np.int64), weights)


def test_a_single_symbol_takes_no_bits() -> None:
    assert coded(np.zeros(1000, np.int64), uniform(1)) == b""
    assert Reader(b"").code(np.zeros(1000, np.int64), symbol_model(uniform(1))).tolist() == [0] * 1000


def test_any_bytes_are_symbols_or_a_typed_error() -> None:
    random = np.random.default_rng(0)
    refused = 0
    for size in (2, 30, 2435):
        model = symbol_model(drawn_weights(size, size))
        for _ in range(300):
            stream = random.bytes(int(random.integers(0, 40)))
            try:
                symbols = Reader(stream).code(np.zeros(60, np.int64), model)
            except FlatvqError:
                refused += 1
            else:
                assert 0 <= symbols.min() <= symbols.max() < size
    assert refused
