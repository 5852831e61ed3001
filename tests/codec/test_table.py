from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec.tokenizers import image, tokenizer

from flatvq.codec.codec import indices_of
from flatvq.codec.entropy import Integers, Reader, Writer
from flatvq.codec.fitting import fit_table
from flatvq.codec.passes import PASSES, passes
from flatvq.codec.table import SCALE, Table, TableLevel, contexts_of, largest_value, predictions
from flatvq.codec.training import _code_vectors


@cache
def fitted(kind: str = "one level", contexts: int = 6) -> tuple[Table, list[Integers]]:
    """Return a table, and the indices of an image that it was not fitted to and of one that it was."""
    model = tokenizer(kind)
    grids = [indices_of(model, image(60, 84, seed))[0] for seed in range(12)]
    return fit_table(grids, _code_vectors(model, 0), contexts, 0), [
        indices_of(model, image(70, 50, 99))[0],
        grids[0],
    ]


@given(
    dim=st.sampled_from([1, 3, 64, 300]),
    stages=st.sampled_from([1, 4]),
    seed=st.integers(0, 10**6),
    top=st.booleans(),
)
@settings(max_examples=40)
def test_contexts_are_those_of_exact_integers(dim: int, stages: int, seed: int, top: bool) -> None:
    random = np.random.default_rng(seed)
    largest = 2 * SCALE * stages * largest_value(stages, dim) if top else 3  # small numbers have ties
    centroids = random.integers(-largest, largest + 1, (7, dim))
    predicted = random.integers(-largest, largest + 1, (50, dim))
    difference = predicted[:, None].astype(object) - centroids[None].astype(object)
    distances = (difference * difference).sum(axis=2)
    assert contexts_of(centroids, predicted).tolist() == [list(row).index(min(row)) for row in distances]


@pytest.mark.parametrize("kind", ["one level", "residual"])
def test_predictions_are_means_of_the_known_neighbours(kind: str) -> None:
    table, (indices, _) = fitted(kind)
    height, width = indices.shape[1:]
    for each in passes(height, width):
        if not each.number:
            continue
        known = predictions(table, indices, each, slice(None))
        steps = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if each.kind == 0 else [(-1, 0), (1, 0), (0, -1), (0, 1)]
        for row, column, prediction in zip(each.rows, each.columns, known, strict=True):
            places = [(row + each.stride * down, column + each.stride * right) for down, right in steps]
            vectors = [
                sum(table.vectors[stage, indices[stage, r, c]] for stage in range(len(indices)))
                for r, c in places
                if 0 <= r < height and 0 <= c < width
            ]
            assert (prediction * len(vectors) == SCALE * sum(vectors)).all()


@pytest.mark.parametrize("kind", ["one level", "one code", "residual", "scalar", "lookup-free"])
def test_a_stream_holds_the_indices_and_is_as_long_as_their_cross_entropy(kind: str) -> None:
    table, grids = fitted(kind)
    level = TableLevel(table)
    for indices in grids:
        writer = Writer()
        level.walk(indices.copy(), writer)
        stream = writer.finish()
        read = np.zeros_like(indices)
        TableLevel(table).walk(read, Reader(stream))
        assert np.array_equal(read, indices)
        bits = cross_entropy(table, indices)
        assert bits - 8 <= 8 * len(stream) <= 1.002 * bits + 16
        assert level.fewest_bits(indices[0].size) <= bits + 1e-6


def cross_entropy(table: Table, indices: Integers) -> float:
    """Return the bits of indices by the formula of the prior, cell by cell, in floating-point numbers."""
    stages, size = table.marginal.shape
    level = (table.marginal + table.level_strength / size) / (
        table.marginal.sum(axis=1, keepdims=True) + table.level_strength
    )
    counts = np.zeros((PASSES - 1, stages, table.centroids.shape[2], size))
    for place in np.ndindex(*counts.shape[:3]):
        start, stop = table.offsets[place]
        counts[place][table.codes[start:stop]] = table.counts[start:stop]

    def mixed(of: np.ndarray, parent: np.ndarray, strength: float) -> np.ndarray:
        return (of + strength * parent) / (of.sum() + strength)

    bits = 0.0
    for each in passes(*indices.shape[1:]):
        own = np.arange(each.number - 1, each.number)
        alike = [number for number in range(PASSES - 1) if number % 2 == each.kind]
        predicted = predictions(table, indices, each, slice(None)) if each.number else None
        for cell, (row, column) in enumerate(zip(each.rows, each.columns, strict=True)):
            for stage in range(stages):
                code = indices[stage, row, column]
                probabilities = level[stage]
                if predicted is not None:
                    distance = ((table.centroids[each.kind, stage] - predicted[cell]) ** 2).sum(axis=1)
                    context = int(distance.argmin())
                    groups = table.groups[each.kind, stage]
                    members = np.flatnonzero(groups == groups[context])
                    of_group = counts[alike, stage][:, members].sum(axis=(0, 1))
                    strengths = table.strengths[each.kind, stage]
                    probabilities = mixed(of_group, probabilities, strengths[0])
                    probabilities = mixed(
                        counts[alike, stage, context].sum(axis=0), probabilities, strengths[1]
                    )
                    strength = table.pass_strengths[each.number - 1, stage]
                    probabilities = mixed(counts[own[0], stage, context], probabilities, strength)
                    predicted[cell] -= SCALE * table.vectors[stage, code]
                bits -= float(np.log2(probabilities[code]))
    return bits


def test_context_tables_save_bits() -> None:
    table, (held_out, _) = fitted()
    writer = Writer()
    TableLevel(table).walk(held_out, writer)
    assert 8 * len(writer.finish()) < 0.9 * held_out.size * np.log2(30)


def test_streams_do_not_depend_on_threads() -> None:
    table, (indices, _) = fitted()
    streams = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        writer = Writer()
        TableLevel(table).walk(indices, writer)
        streams.append(writer.finish())
    assert streams[0] == streams[1]


def test_golden_bytes_of_a_table() -> None:
    """The arithmetic is on integers, so every machine writes these bytes."""
    random = np.random.Generator(np.random.PCG64(7))
    size, dim, contexts = 11, 3, 4
    counts = random.integers(1, 50, (PASSES - 1) * contexts * 5)
    table = Table(
        vectors=random.integers(-900, 900, (1, size, dim)),
        centroids=random.integers(-9000, 9000, (2, 1, contexts, dim)),
        groups=random.integers(0, 2, (2, 1, contexts)),
        marginal=random.integers(0, 1000, (1, size)),
        offsets=np.arange((PASSES - 1) * contexts).reshape(PASSES - 1, 1, contexts, 1) * 5 + np.array([0, 5]),
        codes=np.tile([0, 2, 5, 7, 10], (PASSES - 1) * contexts),
        counts=counts,
        strengths=np.array([[[3, 20]], [[7, 1]]]),
        pass_strengths=np.array([[1], [2], [3], [4], [5], [6]]),
        level_strength=9,
    )
    indices = random.integers(0, size, (1, 9, 7))
    writer = Writer()
    TableLevel(table).walk(indices, writer)
    assert writer.finish().hex() == (
        "c691203f6e26592bcc3ad3161a1f73675ba718cf7ce939d58f2d0e3504c8126629f4cc609d9aa1bc"
        "0e7e340e7e3ef6e620a438f13ce8463492dbff82f012186e59f63c11537d469c18432adbfe079e33"
        "c4d7aab4e96f6e40191bb155af1532368eef5c508ffe14a88c96ef8c34a2"
    )
