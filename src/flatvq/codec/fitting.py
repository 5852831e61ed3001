"""Fits priors to the indices of images. Floats are allowed here: only the resulting integers are stored.

Axes: Q indices of a cell, K codes, D code dim, C contexts, N entries, h w rows and columns of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch

from flatvq.codec.digits import sizes_of, split
from flatvq.codec.entropy import Integers
from flatvq.codec.passes import PASSES, numbers_of, passes
from flatvq.codec.table import GROUPS, SCALE, Table, contexts_of, largest_value, predictions
from flatvq.quantize.init import distinct_rows, kmeans
from flatvq.randomness import generator

__all__ = ["Floats", "digit_counts", "fit_table", "level_strength", "strength_of"]

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

_STRENGTHS = tuple(2**power for power in range(17))
_VECTORS_PER_CONTEXT = 64
_ITERATIONS = 8


def digit_counts(grids: Sequence[Integers], codebook_size: int) -> list[list[Integers]]:
    """Count the digits of indices.

    Args:
        grids: int64 [Q, h, w] of each image.
        codebook_size: K.

    Returns:
        For each of the Q indices of a cell, the counts of each of its digits.
    """
    sizes = sizes_of(codebook_size)
    counts = [[np.zeros(size, np.int64) for size in sizes] for _ in grids[0]]
    for grid in grids:
        for plane, of_plane in zip(grid, counts, strict=True):
            for digit, size, of_digit in zip(split(plane.ravel(), sizes), sizes, of_plane, strict=True):
                of_digit += np.bincount(digit, minlength=size)
    return counts


def strength_of(
    occurrences: Integers, counts: Integers, totals: Integers, parents: Floats
) -> tuple[int, Floats]:
    """Choose how strongly counts are shrunk, by leaving out one occurrence at a time (cross-validation).

    Args:
        occurrences: [N], how often a code occurred in a context, where its bits are summed.
        counts: [N], how often the code occurred in the context whose strength is chosen.
        totals: [N], the sum of the counts of all codes in that context.
        parents: [N], the probability of the code in the next wider context, with the same occurrence left
            out.

    Returns:
        The strength with the fewest bits, and the resulting probabilities, [N].

    Example:
        >>> half = np.array([0.5, 0.5])
        >>> equal, skewed = np.array([50, 50]), np.array([99, 1])
        >>> strength_of(equal, equal, np.array([100, 100]), half)[0]
        65536
        >>> strength_of(skewed, skewed, np.array([100, 100]), half)[0]
        2
    """

    def estimates(strength: int) -> Floats:
        return (counts - 1 + strength * parents) / (totals - 1 + strength)

    bits = [-float(occurrences @ np.log2(estimates(strength))) for strength in _STRENGTHS]
    best = _STRENGTHS[int(np.argmin(bits))]
    return best, estimates(best)


def fit_table(grids: Sequence[Integers], vectors: Floats, contexts: int, seed: int) -> Table:
    """Fit the context-table prior of one level.

    Args:
        grids: int64 [Q, h, w] of each image.
        vectors: [Q, K, D], code vectors.
        contexts: the largest C.
        seed: the seed of the clusterings.
    """
    stages, size, dim = vectors.shape
    largest = float(np.abs(vectors).max()) or 1.0
    integers = np.rint(vectors * (largest_value(stages, dim) / largest)).astype(np.int64)
    marginal = np.stack([counts[0] for counts in digit_counts(grids, size)])
    empty = np.zeros((2, stages, 1, dim), np.int64)
    table = _empty_table(integers, empty, np.zeros((2, stages, 1), np.int64), marginal)
    centroids, groups = _centroids(table, grids, contexts, seed)
    table = _empty_table(integers, centroids, groups, marginal)
    return _with_strengths(_counted(table, grids))


def _empty_table(vectors: Integers, centroids: Integers, groups: Integers, marginal: Integers) -> Table:
    stages, contexts = centroids.shape[1:3]
    nothing = np.zeros(0, np.int64)
    return Table(
        vectors=vectors,
        centroids=centroids,
        groups=groups,
        marginal=marginal,
        offsets=np.zeros((PASSES - 1, stages, contexts, 2), np.int64),
        codes=nothing,
        counts=nothing,
        strengths=np.ones((2, stages, 2), np.int64),
        pass_strengths=np.ones((PASSES - 1, stages), np.int64),
        level_strength=vectors.shape[1],
    )


def _observed(table: Table, grid: Integers) -> Iterator[tuple[int, int, int, Integers, Integers]]:
    """Yield the number, kind, stage, predictions and codes of each pass of a grid after the first."""
    for current_pass in passes(*grid.shape[1:]):
        if current_pass.number and len(current_pass.rows):
            predicted = predictions(table, grid, current_pass, slice(None))
            for stage, plane in enumerate(grid):
                codes = plane[current_pass.rows, current_pass.columns]
                yield current_pass.number, current_pass.kind, stage, predicted, codes
                predicted = predicted - SCALE * table.vectors[stage][codes]


def _centroids(
    table: Table, grids: Sequence[Integers], contexts: int, seed: int
) -> tuple[Integers, Integers]:
    """Cluster a sample of the predictions of each kind of pass and stage; then cluster the centroids."""
    stages, _, dim = table.vectors.shape
    samples: list[list[list[Integers]]] = [[[] for _ in range(stages)] for _ in range(2)]
    cells = sum(grid[0].size for grid in grids)
    every = max(1, cells // (4 * _VECTORS_PER_CONTEXT * contexts))
    for grid in grids:
        for _, kind, stage, predicted, _ in _observed(table, grid):
            samples[kind][stage].append(predicted[::every])
    centroids = np.zeros((2, stages, contexts, dim), np.int64)
    groups = np.zeros((2, stages, contexts), np.int64)
    for kind in range(2):
        for stage in range(stages):
            sample = np.concatenate([*samples[kind][stage], np.zeros((0, dim), np.int64)])
            means = _clusters(sample, contexts, seed, kind, stage)
            wide = _clusters(means, GROUPS, seed, kind, stage, "groups")
            # The other centroids are copies of the first. A search returns the first of equal ones, so that
            # copies are never a context.
            centroids[kind, stage] = means[0]
            centroids[kind, stage, : len(means)] = means
            groups[kind, stage] = contexts_of(wide, centroids[kind, stage])
    return centroids, groups


def _clusters(vectors: Integers, count: int, seed: int, *purpose: str | int) -> Integers:
    """Return the rounded means of at most `count` clusters; a zero vector for no vectors."""
    floats = torch.from_numpy(vectors).float()
    distinct = distinct_rows(floats)
    if not len(distinct):
        return np.zeros((1, vectors.shape[1]), np.int64)
    if len(distinct) > count:
        distinct = kmeans(floats, count, _ITERATIONS, generator(seed, "prior", *purpose))
    return np.asarray(distinct.double().round().long().numpy())


def _counted(table: Table, grids: Sequence[Integers]) -> Table:
    """Count the codes in each context of each pass."""
    stages, size, _ = table.vectors.shape
    contexts = table.centroids.shape[2]
    keys: list[Integers] = [np.zeros(0, np.int64)]
    for grid in grids:
        for number, kind, stage, predicted, codes in _observed(table, grid):
            context = contexts_of(table.centroids[kind, stage], predicted)
            keys.append((((number - 1) * stages + stage) * contexts + context) * size + codes)
    used, counts = np.unique(np.concatenate(keys), return_counts=True)
    bounds = np.searchsorted(used // size, np.arange((PASSES - 1) * stages * contexts + 1))
    offsets = np.stack([bounds[:-1], bounds[1:]], axis=1).reshape(table.offsets.shape)
    return replace(table, offsets=offsets.astype(np.int64), codes=used % size, counts=counts.astype(np.int64))


def _with_strengths(table: Table) -> Table:
    """Choose the strengths, from the widest contexts to the narrowest."""
    strength, level_probabilities = level_strength(table.marginal)
    strengths, pass_strengths = np.ones_like(table.strengths), np.ones_like(table.pass_strengths)
    for kind, stage in np.ndindex(2, len(table.marginal)):
        in_passes = {number: _counts_of_pass(table, number, stage) for number in numbers_of(kind)}
        wide = np.zeros((table.centroids.shape[2], table.marginal.shape[1]), np.int64)
        for context, code, occurrences in in_passes.values():
            wide[context, code] += occurrences
        groups = table.groups[kind, stage]
        grouped = np.zeros((GROUPS, wide.shape[1]), np.int64)
        np.add.at(grouped, groups, wide)
        context, code = np.nonzero(wide)
        occurrences, group = wide[context, code], groups[context]
        strengths[kind, stage, 0], probabilities = strength_of(
            occurrences, grouped[group, code], grouped.sum(axis=1)[group], level_probabilities[stage, code]
        )
        strengths[kind, stage, 1], probabilities = strength_of(
            occurrences, occurrences, wide.sum(axis=1)[context], probabilities
        )
        parents = np.zeros(wide.shape)
        parents[context, code] = probabilities
        for number, (context, code, occurrences) in in_passes.items():
            totals = np.bincount(context, occurrences, len(wide))[context]
            pass_strengths[number - 1, stage], _ = strength_of(
                occurrences, occurrences, totals, parents[context, code]
            )
    return replace(table, level_strength=strength, strengths=strengths, pass_strengths=pass_strengths)


def level_strength(marginal: Integers) -> tuple[int, Floats]:
    """Choose the strength of equal probabilities; also return the probabilities that it gives, [Q, K]."""
    stage, code = np.nonzero(marginal)
    occurrences = marginal[stage, code]
    equal = np.full(len(occurrences), 1 / marginal.shape[1])
    strength, probabilities = strength_of(occurrences, occurrences, marginal.sum(axis=1)[stage], equal)
    level_probabilities = np.zeros(marginal.shape)
    level_probabilities[stage, code] = probabilities
    return strength, level_probabilities


def _counts_of_pass(table: Table, number: int, stage: int) -> tuple[Integers, Integers, Integers]:
    """Return the contexts, codes and counts of a pass."""
    starts, stops = table.offsets[number - 1, stage].T
    part = slice(int(starts[0]), int(stops[-1]))
    return np.repeat(np.arange(len(starts)), stops - starts), table.codes[part], table.counts[part]
