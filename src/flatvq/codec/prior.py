"""Priors: the probabilities of indices, and the order in which the indices of an image are coded.

Axes: Q indices of a cell, h w rows and columns of a level's grid, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from flatvq.codec.digits import join, sizes_of, split
from flatvq.codec.entropy import Coder, Integers, Reader, SymbolModel, Writer, symbol_model
from flatvq.codec.weights import fewest_bits, uniform
from flatvq.errors import FlatvqError
from flatvq.recipe import LevelRecipe, ModelRecipe

__all__ = [
    "KINDS",
    "FittedKind",
    "LevelPrior",
    "Prior",
    "PriorKind",
    "StaticLevel",
    "indices_per_cell",
    "without_prior",
]

PriorKind: TypeAlias = Literal["none", "order-0", "table", "network"]
"""`none`: all codes have the same probability. `order-0`: each code has its own. `table`: probabilities also
depend on the four nearest known cells. `network`: they depend on more cells and on the next coarser level."""
FittedKind: TypeAlias = Literal["order-0", "table", "network"]
"""Kinds that are fitted to images."""
KINDS: tuple[PriorKind, ...] = get_args(PriorKind)


class LevelPrior(Protocol):
    """The prior of one level."""

    def walk(self, indices: Integers, coder: Coder, coarser: Integers | None = None) -> None:
        """Code the indices of one image.

        Args:
            indices: int64 [Q, h, w]. A `Writer` writes them. A `Reader` overwrites them.
            coder: the `Writer` or the `Reader`.
            coarser: the indices of the next coarser level, which is coded before; None if there is none. Only
                a network uses them.

        Raises:
            FlatvqError: if a stream holds no valid indices.
        """

    def fewest_bits(self, cells: int) -> float:
        """Return a lower bound on the bits of any valid stream of a grid."""


@dataclass(frozen=True)
class Prior:
    """The prior of a tokenizer."""

    kind: PriorKind
    levels: tuple[LevelPrior, ...]
    """The prior of each level, bottom first."""
    digest: bytes
    """SHA-256 of what determines the probabilities; empty for `none`."""

    def write(self, levels: Sequence[Integers]) -> list[bytes]:
        """Return the streams of the indices of an image.

        Args:
            levels: int64 [Q, h, w] of each level, bottom first.
        """
        streams = []
        for prior, indices, coarser in zip(self.levels, levels, [*levels[1:], None], strict=True):
            writer = Writer()
            prior.walk(indices, writer, coarser)
            streams.append(writer.finish())
        return streams

    def read(self, streams: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]) -> list[Integers]:
        """Return the indices of an image, int64 [Q, h, w] of each level, bottom first.

        Args:
            streams: the stream of each level, bottom first.
            shapes: Q, h and w of each level.

        Raises:
            FlatvqError: if a stream holds no valid indices.
        """
        levels: list[Integers] = []
        for prior, stream, shape in reversed(list(zip(self.levels, streams, shapes, strict=True))):
            indices = np.zeros(shape, np.int64)
            prior.walk(indices, Reader(stream), levels[0] if levels else None)
            levels.insert(0, indices)
        return levels


class StaticLevel:
    """Codes every index with the same probabilities, in rows from top to bottom.

    Args:
        codebook_size: K.
        weights: for each of the Q indices of a cell, the weights of each of its digits.
    """

    def __init__(self, codebook_size: int, weights: Sequence[Sequence[Integers]]) -> None:
        self._codebook_size = codebook_size
        self._sizes = sizes_of(codebook_size)
        self._models: list[list[SymbolModel]] = [[symbol_model(digit) for digit in each] for each in weights]
        self._fewest_bits = sum(fewest_bits(digit) for each in weights for digit in each)

    def walk(self, indices: Integers, coder: Coder, coarser: Integers | None = None) -> None:
        """Code the indices of one image (see `LevelPrior.walk`)."""
        for plane, models in zip(indices, self._models, strict=True):
            digits = split(plane.ravel(), self._sizes)
            coded = [coder.code(digit, model) for digit, model in zip(digits, models, strict=True)]
            joined = join(coded, self._sizes)
            if joined.size and not 0 <= int(joined.min()) <= int(joined.max()) < self._codebook_size:
                raise FlatvqError("a stream holds an index outside the codebook", "compress the image again")
            plane[...] = joined.reshape(plane.shape)

    def fewest_bits(self, cells: int) -> float:
        """Return a lower bound of the bits of a grid."""
        return cells * self._fewest_bits


def without_prior(recipe: ModelRecipe) -> Prior:
    """Return the prior that gives all codes the same probability."""
    return Prior("none", tuple(_uniform_level(level) for level in recipe.levels), b"")


def indices_per_cell(level: LevelRecipe) -> int:
    """Return Q, the number of indices in each cell."""
    return prod(level.index_shape)


def _uniform_level(level: LevelRecipe) -> StaticLevel:
    digits = [uniform(size) for size in sizes_of(level.codebook_size)]
    return StaticLevel(level.codebook_size, [digits] * indices_per_cell(level))
