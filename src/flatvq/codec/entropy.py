"""The range coder: symbols to bytes and back, by integer weights.

`constriction` does the work. Two rules make the bytes equal on every machine:

- The weights of K symbols are integers that sum to 2^24 - K. constriction adds one to each, so that symbol k
has the probability (weight + 1) / 2^24 exactly. With other sums it would scale the weights, and then float32
and float64 weights give different bytes. - The words of the coder are stored most significant byte first.
Last bytes that the decoder does not need are left out, because it continues with zeros. On average, a stream
is less than a byte longer than its information.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np

from flatvq.errors import FlatvqError

__all__ = [
    "MOST_SYMBOLS",
    "SLACK_BITS",
    "Coder",
    "Integers",
    "Reader",
    "SymbolModel",
    "Writer",
    "symbol_model",
    "total_of",
]

SLACK_BITS = 64
"""The final interval of the coder: a stream may be this much shorter than the information of its symbols."""
MOST_SYMBOLS = 2**16
"""Largest number of symbols of a model."""

Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
SymbolModel: TypeAlias = Any
"""A model of `constriction`; None for a single symbol, which takes no bits."""

# constriction's probabilities have 24 bits.
_SCALE = 2**24
_STATE_BYTES = 8
_WORD_BYTES = 4


def total_of(size: int) -> int:
    """Return the sum of the weights of `size` symbols.

    Example:
        >>> total_of(1000)
        16776216
    """
    return _SCALE - size


def symbol_model(weights: Integers) -> SymbolModel:
    """Make a model for `Writer` and `Reader`.

    Args:
        weights: int64 [K], not negative, with the sum `total_of(K)`.
    """
    if len(weights) == 1:
        return None
    return _constriction().stream.model.Categorical(weights.astype(np.float32), perfect=False)


class Coder(Protocol):
    """The interface of `Writer` and `Reader`. With it, one function defines the order of symbols for both."""

    def code(self, symbols: Integers, model: SymbolModel) -> Integers:
        """Write these symbols and return them; or read as many symbols and return those."""

    def code_each(self, symbols: Integers, weights: Integers) -> Integers:
        """Code symbols with separate weights, int64 [N, K]. Each row has the sum `total_of(K)`."""


class Writer:
    """Encodes symbols.

    Example:
        >>> model = symbol_model(np.array([3, 1]) * total_of(2) // 4)
        >>> writer = Writer()
        >>> _ = writer.code(np.array([0, 1, 0, 0]), model)
        >>> stream = writer.finish()
        >>> len(stream), Reader(stream).code(np.zeros(4, np.int64), model).tolist()
        (1, [0, 1, 0, 0])
    """

    def __init__(self) -> None:
        self._coder = _constriction().stream.queue.RangeEncoder()

    def code(self, symbols: Integers, model: SymbolModel) -> Integers:
        """Write symbols, int64 [N], each below the number of weights."""
        if model is not None and len(symbols):
            self._coder.encode(symbols.astype(np.int32), model)
        return symbols

    def code_each(self, symbols: Integers, weights: Integers) -> Integers:
        """Write symbols, int64 [N], by weights, int64 [N, K]."""
        if weights.shape[1] > 1 and len(symbols):
            self._coder.encode(symbols.astype(np.int32), _each(), weights.astype(np.float32))
        return symbols

    def finish(self) -> bytes:
        """Return the stream."""
        position, (lower, width) = self._coder.pos()
        words: bytes = self._coder.get_compressed().astype(">u4").tobytes()
        start = _WORD_BYTES * position
        last = int.from_bytes(words[start:].ljust(_STATE_BYTES, b"\0"), "big")
        return words[:start] + _shortest(last, lower, width)


class Reader:
    """Decodes symbols.

    Args:
        stream: what `Writer.finish` returned.
    """

    def __init__(self, stream: bytes) -> None:
        padded = stream + bytes(-len(stream) % _WORD_BYTES)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._coder = _constriction().stream.queue.RangeDecoder(words)
        self._bits_left = float(8 * len(stream) + SLACK_BITS)

    def code(self, symbols: Integers, model: SymbolModel) -> Integers:
        """Read as many symbols as `symbols` has. Its values are ignored.

        Raises:
            FlatvqError: if the stream is not the output of a `Writer`.
        """
        if model is None or not len(symbols):
            return np.zeros_like(symbols)
        return self._read(model, len(symbols))

    def code_each(self, symbols: Integers, weights: Integers) -> Integers:
        """Read symbols, int64 [N], by weights, int64 [N, K].

        Raises:
            FlatvqError: if the stream is not the output of a `Writer`, for example because it is too short.
        """
        if weights.shape[1] == 1 or not len(symbols):
            return np.zeros(len(symbols), np.int64)
        read = self._read(_each(), weights.astype(np.float32))
        weight_of_each = np.take_along_axis(weights, read[:, None], axis=1)
        self._bits_left += float(np.log2((weight_of_each + 1) / _SCALE).sum())
        if self._bits_left < 0:
            raise FlatvqError("a stream is too short for its symbols", "compress the image again")
        return read

    def _read(self, model: SymbolModel, what: Any) -> Integers:
        try:
            read: Integers = self._coder.decode(model, what).astype(np.int64)
        except (AssertionError, KeyError, ValueError, TypeError):
            raise FlatvqError("a stream holds no valid symbols", "compress the image again") from None
        return read


def _shortest(last: int, lower: int, width: int) -> bytes:
    """Return the fewest bytes that identify the final interval of the encoder.

    Args:
        last: the 64 bits that the encoder would write, some point of the interval.
        lower: the start of the interval, modulo 2^64.
        width: the length of the interval.

    Returns:
        The point of the interval that ends with the most zero bytes, without these bytes.
    """
    end = lower + width
    # If the point lies behind the overflow, the encoder has carried into the previous words.
    low, high = (0, end - 2**64) if last < lower and end > 2**64 else (lower, min(end, 2**64))
    for count in range(_STATE_BYTES):
        step = 1 << 8 * (_STATE_BYTES - count)
        point = -(-low // step) * step
        if point < high:
            return point.to_bytes(_STATE_BYTES, "big")[:count]
    return low.to_bytes(_STATE_BYTES, "big")


@cache
def _each() -> SymbolModel:
    """Return a model whose weights are given for each symbol."""
    return _constriction().stream.model.Categorical(perfect=False)


@cache
def _constriction() -> Any:
    import constriction

    return constriction
