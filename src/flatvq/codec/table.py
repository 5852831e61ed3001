"""The context-table prior: the probabilities of an index depend on the known neighbours of its cell.

The cells are coded from coarse to fine (`passes`). The mean of the code vectors of the known neighbours
predicts the code vector of a cell. The context is the nearest of C centroids to this prediction. If a cell
has several indices, as with a residual quantizer, the code vectors of its previous indices are subtracted
first.

The probabilities of a context come from counts, which are shrunk towards the probabilities of wider contexts:

    level -> group of contexts -> context in all passes of its kind -> context in one pass

Every number is an integer. Distances are computed in float64, where products and sums of integers below 2^53
are exact in any order, so every machine finds the same contexts.

Axes: Q indices of a cell, K codes, D code dim, C contexts, G groups, N cells, h w rows and columns of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
import torch

from flatvq.codec.entropy import Coder, Integers, symbol_model
from flatvq.codec.passes import PASSES, Pass, kind_of, numbers_of, passes
from flatvq.codec.weights import fewest_bits, shrunk, uniform

__all__ = [
    "GROUPS",
    "MOST_CONTEXTS",
    "SCALE",
    "Table",
    "TableLevel",
    "contexts_of",
    "largest_value",
    "predictions",
]

SCALE = 12
"""Predictions are multiplied by 12, which is divisible by each possible number of neighbours (1 to 4)."""
GROUPS = 16
"""Largest number of groups of contexts."""
MOST_CONTEXTS = 4096
"""Largest number of contexts."""

# Of a chunk of cells: their predictions take 8 N D bytes, their distances 8 N C.
_CHUNK = 8192
_CACHED_BYTES = 2**28
# A model of constriction has a few numbers for each symbol.
_BYTES_PER_SYMBOL = 16


@dataclass(frozen=True)
class Table:
    """The integers of the prior of one level."""

    vectors: Integers
    """[Q, K, D]: code vectors, of a common scale. None exceeds `largest_value` in magnitude."""
    centroids: Integers
    """[2, Q, C, D]: for each kind of pass, `SCALE` times the scale of the vectors."""
    groups: Integers
    """[2, Q, C]: the group of each context, below `GROUPS`."""
    marginal: Integers
    """[Q, K]: counts over the whole level."""
    offsets: Integers
    """[PASSES - 1, Q, C, 2]: the part of `codes` and `counts` that belongs to a context of a pass."""
    codes: Integers
    """The codes that occurred in a context, ascending."""
    counts: Integers
    """How often they occurred."""
    strengths: Integers
    """[2, Q, 2]: for each kind of pass, the strength (in counts) of a level in a group, and of a group in a
    context."""
    pass_strengths: Integers
    """[PASSES - 1, Q]: the strength (in counts) of a context of a kind of pass in one of these passes."""
    level_strength: int
    """The strength (in counts) of equal probabilities in a level."""


def largest_value(stages: int, dim: int) -> int:
    """Return the largest magnitude of a value of `Table.vectors`.

    Predictions and centroids are at most M = 2 x SCALE x Q x value. The numbers that `contexts_of` computes
    are at most 3 D M^2, which is below 2^53.

    Args:
        stages: Q.
        dim: D.

    Example:
        >>> largest_value(1, 64), largest_value(64, 65536)
        (1023, 120)
    """
    return min(1023, isqrt(2**51 // dim) // (2 * SCALE * stages))


def predictions(table: Table, indices: Integers, current_pass: Pass, part: slice) -> Integers:
    """Predict code vectors from the mean of the known neighbours, times `SCALE`.

    Args:
        table: the prior of the level.
        indices: int64 [Q, h, w]. Indices of later passes are not read.
        current_pass: the pass, not the first one.
        part: the cells of the pass.

    Returns:
        int64 [N, D]; zero without a neighbour.
    """
    height, width = indices.shape[1:]
    count = len(current_pass.rows[part])
    sums = np.zeros((count, table.vectors.shape[2]), np.int64)
    known = np.zeros(count, np.int64)
    for inside, rows, columns in current_pass.neighbours(height, width, part):
        for vectors, plane in zip(table.vectors, indices, strict=True):
            sums[inside] += vectors[plane[rows, columns]]
        known[inside] += 1
    sums *= (SCALE // np.maximum(known, 1))[:, None]
    return sums


def contexts_of(centroids: Integers, predicted: Integers) -> Integers:
    """Return the nearest centroid of each prediction; of equally near ones the first.

    Args:
        centroids: int64 [C, D].
        predicted: int64 [N, D].

    Returns:
        int64 [N].

    Example:
        >>> contexts_of(np.array([[0], [4]]), np.array([[1], [2], [3]])).tolist()
        [0, 0, 1]
    """
    means, points = torch.from_numpy(centroids).double(), torch.from_numpy(predicted).double()
    # Squared distances without |prediction|^2, which is the same for all centroids.
    distances = torch.addmm(means.square().sum(dim=1), points, means.T, alpha=-2)
    nearest: Integers = distances.numpy().argmin(axis=1)
    return nearest


class TableLevel:
    """Codes the indices of one level with a `Table`."""

    def __init__(self, table: Table) -> None:
        self._table = table
        size = table.vectors.shape[1]
        self._level = [shrunk(counts, uniform(size), table.level_strength) for counts in table.marginal]
        self._level_models = [symbol_model(weights) for weights in self._level]
        self._fewest_bits: float | None = None
        cached = max(64, _CACHED_BYTES // (_BYTES_PER_SYMBOL * size))
        # One cache for each object; a decorator would share its cache among all objects.
        self._group = lru_cache(maxsize=None)(self._group_weights)
        self._model = lru_cache(maxsize=cached)(lambda *context: symbol_model(self._weights(*context)))

    def walk(self, indices: Integers, coder: Coder, coarser: Integers | None = None) -> None:
        """Code the indices of one image (see `LevelPrior.walk`)."""
        for current_pass in passes(*indices.shape[1:]):
            for first in range(0, len(current_pass.rows), _CHUNK):
                self._walk_part(indices, coder, current_pass, slice(first, first + _CHUNK))

    def _walk_part(self, indices: Integers, coder: Coder, current_pass: Pass, part: slice) -> None:
        rows, columns = current_pass.rows[part], current_pass.columns[part]
        predicted = predictions(self._table, indices, current_pass, part) if current_pass.number else None
        for stage, plane in enumerate(indices):
            symbols = plane[rows, columns]
            if predicted is None:
                symbols = coder.code(symbols, self._level_models[stage])
            else:
                contexts = contexts_of(self._table.centroids[current_pass.kind, stage], predicted)
                order = contexts.argsort(kind="stable")
                for cells in np.split(order, np.flatnonzero(np.diff(contexts[order])) + 1):
                    model = self._model(current_pass.number, stage, int(contexts[cells[0]]))
                    symbols[cells] = coder.code(symbols[cells], model)
                predicted -= SCALE * self._table.vectors[stage][symbols]
            plane[rows, columns] = symbols

    def fewest_bits(self, cells: int) -> float:
        """Return a lower bound of the bits of a grid."""
        if self._fewest_bits is None:
            self._fewest_bits = sum(self._least(stage) for stage in range(len(self._level)))
        return cells * self._fewest_bits

    def _least(self, stage: int) -> float:
        """Return the fewest bits of an index in any context."""
        contexts = range(self._table.centroids.shape[2])
        candidates = [
            fewest_bits(self._weights(number, stage, context))
            for number in range(1, PASSES)
            for context in contexts
        ]
        return min(fewest_bits(self._level[stage]), *candidates)

    def _weights(self, number: int, stage: int, context: int) -> Integers:
        """Return the weights of a context of a pass."""
        kind = kind_of(number)
        table = self._table
        group = self._group(kind, stage, int(table.groups[kind, stage, context]))
        kind_counts = sum(self._counts(number, stage, context) for number in numbers_of(kind))
        wider = shrunk(np.asarray(kind_counts), group, int(table.strengths[kind, stage, 1]))
        strength = int(table.pass_strengths[number - 1, stage])
        return shrunk(self._counts(number, stage, context), wider, strength)

    def _group_weights(self, kind: int, stage: int, group: int) -> Integers:
        members = np.flatnonzero(self._table.groups[kind, stage] == group)
        counts = np.zeros_like(self._level[stage])
        for number in numbers_of(kind):
            for context in members:
                counts += self._counts(number, stage, int(context))
        return shrunk(counts, self._level[stage], int(self._table.strengths[kind, stage, 0]))

    def _counts(self, number: int, stage: int, context: int) -> Integers:
        start, stop = self._table.offsets[number - 1, stage, context]
        counts = np.zeros(self._table.vectors.shape[1], np.int64)
        counts[self._table.codes[start:stop]] = self._table.counts[start:stop]
        return counts
