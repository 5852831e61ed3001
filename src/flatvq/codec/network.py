"""The network prior: a small convolutional network of integers computes the probabilities of each index.

The cells are coded from coarse to fine (`passes`), and all cells of a pass at once. The network sees the 24
nearest known cells (`neighbourhood`), the indices of the cell itself that are already known, and nine cells
of the next coarser level, which is coded before. Its output is a vector of features F:

    embeddings -> first layer -> ReLU -> x + ReLU(middle layer of x) -> feature layer -> F

An index is coded as its group, and then as its place in the group. Both have logits that are products with F.
There are about as many groups as codes in each, so that K codes cost about 2 sqrt(K) products and not K.

Weights and activations are integers of 8 bits. Products are computed in float64, where sums of products below
2^53 are exact in any order; everything else is int64. So every machine computes the same probabilities.

Axes: Q indices of a cell, K codes, E embedding dim, I inputs (cells), H hidden width, F features, G groups, N
cells, h w rows and columns of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flatvq.codec.entropy import Coder, Integers
from flatvq.codec.neighbourhood import COARSER, NEIGHBOURS, coarser_cells, known_cells
from flatvq.codec.passes import Pass, passes
from flatvq.codec.softmax import fewest_bits_of_choice, softmax

__all__ = [
    "LARGEST",
    "LARGEST_ACTIVATION",
    "SHIFT",
    "Linear",
    "Network",
    "NetworkLevel",
    "embedded",
    "inputs_of",
    "product",
    "scaled",
]

SHIFT = 24
"""Products are multiplied by an integer and divided by 2^24."""
LARGEST = 127
"""Largest magnitude of weights, embeddings and features."""

LARGEST_ACTIVATION = 255
"""Largest hidden activation."""
# Of a chunk of cells: their inputs take 8 N I E bytes.
_CHUNK = 4096


@dataclass(frozen=True)
class Linear:
    """A layer of integers: `scaled(product(x, weights), multipliers) + biases`."""

    weights: Integers
    """[outputs, inputs], of 8 bits."""
    multipliers: Integers
    """[outputs], not negative: the scale of each output, times 2^24."""
    biases: Integers
    """[outputs], in units of the output."""

    def __call__(self, values: Integers) -> Integers:
        """Return int64 [N, outputs] for int64 [N, inputs]."""
        return scaled(product(values, self._floats), self.multipliers) + self.biases

    def part(self, outputs: Integers) -> Linear:
        """Return the layer with some of the outputs."""
        return Linear(self.weights[outputs], self.multipliers[outputs], self.biases[outputs])

    @cached_property
    def _floats(self) -> Tensor:
        return torch.from_numpy(self.weights).double()


@dataclass(frozen=True)
class Network:
    """The integers of the prior of one level."""

    embeddings: Integers
    """[Q, K + 1, E]: the last row stands for an unknown cell. The embedding of a cell is the sum over its
    indices."""
    coarser: Integers
    """[Q, K + 1, E]: the same for the codes of the next coarser level; Q is 0 if there is none."""
    first: Integers
    """[2, H, I, E]: for each kind of pass, the weights of the first layer. The inputs are the known cells,
    the cells of the coarser level if there is one, and the cell itself if Q is more than 1."""
    first_multipliers: Integers
    """[2, H]"""
    first_biases: Integers
    """[PASSES, Q, H]"""
    middle: Linear
    """From H to H."""
    features: Linear
    """From H to F."""
    groups: Integers
    """[Q, K]: the group of each code. No group is empty."""
    group_logits: tuple[Linear, ...]
    """For each index of a cell, from F to G."""
    code_logits: tuple[Linear, ...]
    """For each index of a cell, from F to K."""


def inputs_of(stages: int, coarser: bool) -> int:
    """Return I, the number of cells that a network sees.

    Example:
        >>> inputs_of(1, coarser=False), inputs_of(4, coarser=True)
        (24, 34)
    """
    return NEIGHBOURS + COARSER * coarser + (stages > 1)


def product(values: Integers, weights: Tensor) -> Integers:
    """Multiply integers of 8 bits, exactly in any order of the sums.

    Args:
        values: int64 [N, inputs].
        weights: float64 [outputs, inputs], integers.

    Returns:
        int64 [N, outputs].
    """
    exact: Integers = (torch.from_numpy(values).double() @ weights.T).long().numpy()
    return exact


def scaled(products: Integers, multipliers: Integers) -> Integers:
    """Multiply by `multipliers` / 2^24, and round to the nearest integer, halves up.

    Example:
        >>> scaled(np.array([3, 5, -3]), np.array([2**23, 2**22, 2**23])).tolist()
        [2, 1, -1]
    """
    return (products * multipliers + (1 << SHIFT - 1)) >> SHIFT


def embedded(embeddings: Integers, planes: Integers, positions: Integers) -> Integers:
    """Return the embeddings of cells.

    Args:
        embeddings: int64 [Q, K + 1, E].
        planes: int64 [Q, h x w], the indices of a grid.
        positions: int64 [N, cells], -1 for a cell that is not known.

    Returns:
        int64 [N, cells x E].
    """
    total = np.zeros((*positions.shape, embeddings.shape[2]), np.int64)
    for vectors, plane in zip(embeddings, planes, strict=True):
        total += vectors[np.where(positions < 0, len(vectors) - 1, plane[positions])]
    return total.reshape(len(positions), -1)


class NetworkLevel:
    """Codes the indices of one level with a `Network`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        stages = len(network.groups)
        around = inputs_of(stages, len(network.coarser) > 0) - (stages > 1)
        floats = torch.from_numpy(network.first).double()
        self._around, self._own = floats[:, :, :around].flatten(2), floats[:, :, around:].flatten(2)
        # The codes of each group, ascending; the layers of their logits; and the place of each code.
        self._members, self._layers, self._places = [], [], np.zeros_like(network.groups)
        for stage, (groups, logits) in enumerate(zip(network.groups, network.code_logits, strict=True)):
            order = groups.argsort(kind="stable")
            members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
            for codes in members:
                self._places[stage, codes] = np.arange(len(codes))
            self._members.append(members)
            self._layers.append([logits.part(codes) for codes in members])

    def walk(self, indices: Integers, coder: Coder, coarser: Integers | None = None) -> None:
        """Code the indices of one image (see `LevelPrior.walk`)."""
        for current_pass in passes(*indices.shape[1:]):
            for first in range(0, len(current_pass.rows), _CHUNK):
                self._walk_part(indices, coder, current_pass, slice(first, first + _CHUNK), coarser)

    def fewest_bits(self, cells: int) -> float:
        """Return a lower bound of the bits of a grid."""
        return cells * sum(
            fewest_bits_of_choice(len(members)) + min(fewest_bits_of_choice(len(codes)) for codes in members)
            for members in self._members
        )

    def _walk_part(
        self, indices: Integers, coder: Coder, current_pass: Pass, part: slice, coarser: Integers | None
    ) -> None:
        network, rows, columns = self._network, current_pass.rows[part], current_pass.columns[part]
        around = product(self._inputs(indices, current_pass, part, coarser), self._around[current_pass.kind])
        own = np.zeros((len(rows), network.embeddings.shape[2]), np.int64)
        for stage, plane in enumerate(indices):
            products = around + product(own, self._own[current_pass.kind]) if stage else around
            hidden = scaled(products, network.first_multipliers[current_pass.kind])
            hidden = (hidden + network.first_biases[current_pass.number, stage]).clip(0, LARGEST_ACTIVATION)
            hidden = (hidden + network.middle(hidden).clip(0)).clip(0, LARGEST_ACTIVATION)
            features = network.features(hidden).clip(-LARGEST, LARGEST)
            symbols = self._code(plane[rows, columns], coder, stage, features)
            plane[rows, columns] = symbols
            own += network.embeddings[stage, symbols]

    def _inputs(
        self, indices: Integers, current_pass: Pass, part: slice, coarser: Integers | None
    ) -> Integers:
        """Return the embeddings of the cells around, int64 [N, cells x E]."""
        network, rows, columns, grid = (
            self._network,
            current_pass.rows[part],
            current_pass.columns[part],
            indices.shape[1:],
        )
        positions = known_cells(
            current_pass.kind, rows, columns, np.full(len(rows), current_pass.number), *grid
        )
        known = embedded(network.embeddings, indices.reshape(len(indices), -1), positions)
        if not len(network.coarser):
            return known
        assert coarser is not None
        positions = coarser_cells(rows, columns, grid, coarser.shape[1:])
        above = embedded(network.coarser, coarser.reshape(len(coarser), -1), positions)
        return np.concatenate([known, above], axis=1)

    def _code(self, symbols: Integers, coder: Coder, stage: int, features: Integers) -> Integers:
        network = self._network
        groups = coder.code_each(
            network.groups[stage, symbols], softmax(network.group_logits[stage](features))
        )
        places, coded = self._places[stage, symbols], np.zeros_like(symbols)
        order = groups.argsort(kind="stable")
        for cells in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            if len(cells):
                group = int(groups[cells[0]])
                weights = softmax(self._layers[stage][group](features[cells]))
                coded[cells] = self._members[stage][group][coder.code_each(places[cells], weights)]
        return coded
