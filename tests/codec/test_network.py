from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tests.codec.tokenizers import image, tokenizer

from flatvq.codec.codec import indices_of
from flatvq.codec.entropy import Integers, Reader, Writer
from flatvq.codec.fitting import digit_counts
from flatvq.codec.neighbourhood import NEIGHBOURS, OFFSETS, known_cells
from flatvq.codec.network import Linear, Network, NetworkLevel, inputs_of, product
from flatvq.codec.network_fitting import fit_network
from flatvq.codec.network_quantizing import quantized
from flatvq.codec.network_training import FloatNetwork, train_network
from flatvq.codec.passes import PASSES, number_of, passes
from flatvq.codec.samples import Cells
from flatvq.codec.training import _code_vectors

pytestmark = pytest.mark.slow

LEVEL_KINDS = ["one level", "one code", "residual", "scalar", "lookup-free", "parallel"]


@cache
def fitted(kind: str = "one level") -> tuple[Network, list[list[Integers]]]:
    """Return the network of the bottom level, and the indices of two images, of that level and the next one.

    The network was fitted to the second image.
    """
    model = tokenizer(kind)
    encoded = [indices_of(model, image(60, 84, seed)) for seed in range(12)]
    levels = range(min(2, len(model.recipe.levels)))
    network = fit_network(
        [[each[level] for each in encoded] for level in levels],
        [_code_vectors(model, level) for level in levels],
        steps=60,
    )
    return network, [indices_of(model, image(70, 50, 99)), encoded[0]]


def written(network: Network, levels: list[Integers]) -> bytes:
    writer = Writer()
    NetworkLevel(network).walk(levels[0].copy(), writer, levels[1] if len(levels) > 1 else None)
    return writer.finish()


def drawn_network(seed: int, stages: int, size: int, coarser: int, dim: int = 3, hidden: int = 5) -> Network:
    """Return a network of random integers."""
    random = np.random.Generator(np.random.PCG64(seed))
    inputs, count = inputs_of(stages, coarser > 0), min(size, 3)

    def linear(outputs: int, wide: int) -> Linear:
        weights = random.integers(-127, 128, (outputs, wide))
        return Linear(weights, random.integers(2**12, 2**18, outputs), random.integers(-90, 90, outputs))

    return Network(
        embeddings=random.integers(-127, 128, (stages, size + 1, dim)),
        coarser=random.integers(-127, 128, (stages if coarser else 0, coarser + 1, dim)),
        first=random.integers(-127, 128, (2, hidden, inputs, dim)),
        first_multipliers=random.integers(2**12, 2**16, (2, hidden)),
        first_biases=random.integers(-90, 90, (PASSES, stages, hidden)),
        middle=linear(hidden, hidden),
        features=linear(4, hidden),
        groups=np.stack([random.permutation(np.arange(size) % count) for _ in range(stages)]),
        group_logits=tuple(linear(count, 4) for _ in range(stages)),
        code_logits=tuple(linear(size, 4) for _ in range(stages)),
    )


@pytest.mark.parametrize("shape", [(1, 1), (9, 7), (20, 33), (16, 16)])
def test_passes_of_cells(shape: tuple[int, int]) -> None:
    for each in passes(*shape):
        assert (number_of(each.rows, each.columns) == each.number).all()


@pytest.mark.parametrize("shape", [(1, 1), (9, 7), (20, 33)])
def test_the_network_sees_the_nearest_cells_of_earlier_passes_alone(shape: tuple[int, int]) -> None:
    order = np.zeros(shape, int)
    for each in passes(*shape):
        order[each.rows, each.columns] = each.number
    for each in passes(*shape):
        numbers = np.full(len(each.rows), each.number)
        seen = known_cells(each.kind, each.rows, each.columns, numbers, *shape)
        assert seen.shape == (len(each.rows), NEIGHBOURS)
        assert each.number or (seen < 0).all()
        for row, column, positions in zip(each.rows, each.columns, seen, strict=True):
            cells = [divmod(int(position), shape[1]) for position in positions if position >= 0]
            assert all(order[cell] < each.number for cell in cells)
            assert len(set(cells)) == len(cells)
            earlier = [cell for cell in np.ndindex(shape) if order[cell] < each.number]
            reach = (np.abs(OFFSETS[each.kind]).sum(axis=1) * each.stride).max() / 3
            near = {cell for cell in earlier if abs(cell[0] - row) + abs(cell[1] - column) <= reach}
            assert near <= set(cells) or not each.number


@pytest.mark.parametrize("kind", LEVEL_KINDS)
def test_a_stream_holds_the_indices(kind: str) -> None:
    network, images = fitted(kind)
    for levels in images:
        read = np.zeros_like(levels[0])
        stream = Reader(written(network, levels))
        NetworkLevel(network).walk(read, stream, levels[1] if len(levels) > 1 else None)
        assert np.array_equal(read, levels[0])


@pytest.mark.parametrize(
    ("stages", "size", "coarser"), [(1, 11, 0), (1, 1, 0), (3, 11, 0), (2, 5, 6), (1, 40, 4)]
)
def test_a_stream_is_as_long_as_the_cross_entropy_of_its_indices(
    stages: int, size: int, coarser: int
) -> None:
    random = np.random.default_rng(size)
    network = drawn_network(size, stages, size, coarser)
    levels = [random.integers(0, size, (stages, 13, 18))]
    if coarser:
        levels.append(random.integers(0, coarser, (stages, 7, 9)))
    bits = cross_entropy(network, levels)
    assert bits - 8 <= 8 * len(written(network, levels)) <= 1.002 * bits + 16
    assert NetworkLevel(network).fewest_bits(13 * 18) <= bits + 1e-6


def cross_entropy(network: Network, levels: list[Integers]) -> float:
    """Return the bits of indices by the formulas of docs/file-format.md, cell by cell."""
    indices = levels[0]
    stages, height, width = indices.shape

    def scaled(values: list[int], weights: Any, multipliers: Any, biases: Any) -> list[int]:
        outputs = []
        for row, multiplier, bias in zip(
            weights.tolist(), multipliers.tolist(), biases.tolist(), strict=True
        ):
            total = sum(weight * value for weight, value in zip(row, values, strict=True))
            outputs.append((total * multiplier + 2**23) // 2**24 + bias)
        return outputs

    def layer(values: list[int], linear: Linear) -> list[int]:
        return scaled(values, linear.weights, linear.multipliers, linear.biases)

    def embedding(tables: Any, planes: Integers, row: int, column: int, known: bool) -> list[int]:
        inside = known and 0 <= row < planes.shape[1] and 0 <= column < planes.shape[2]
        codes = planes[:, row, column] if inside else [tables.shape[1] - 1] * len(planes)
        return [
            int(sum(table[code, dim] for table, code in zip(tables, codes, strict=True)))
            for dim in range(tables.shape[2])
        ]

    def information(logits: list[int], symbol: int) -> float:
        shares = np.exp2(np.maximum(np.array(logits) - max(logits), -1024) / 64)
        return -float(np.log2(shares[symbol] / shares.sum()))

    bits = 0.0
    for each in passes(height, width):
        for row, column in zip(each.rows.tolist(), each.columns.tolist(), strict=True):
            around: list[int] = []
            for down, right in OFFSETS[each.kind].tolist():
                place = row + down * each.stride, column + right * each.stride
                around += embedding(network.embeddings, indices, *place, known=each.number > 0)
            if len(network.coarser):
                top, left = row * levels[1].shape[1] // height, column * levels[1].shape[2] // width
                for down in (-1, 0, 1):
                    for right in (-1, 0, 1):
                        around += embedding(network.coarser, levels[1], top + down, left + right, known=True)
            for stage in range(stages):
                code = int(indices[stage, row, column])
                own = [0] * network.embeddings.shape[2]
                for before in range(stage):
                    vector = network.embeddings[before, indices[before, row, column]].tolist()
                    own = [a + b for a, b in zip(own, vector, strict=True)]
                values = around + (own if stages > 1 else [])
                hidden = scaled(
                    values,
                    network.first[each.kind].reshape(network.first.shape[1], -1),
                    network.first_multipliers[each.kind],
                    network.first_biases[each.number, stage],
                )
                hidden = [min(max(value, 0), 255) for value in hidden]
                middle = layer(hidden, network.middle)
                hidden = [min(value + max(more, 0), 255) for value, more in zip(hidden, middle, strict=True)]
                features = [min(max(value, -127), 127) for value in layer(hidden, network.features)]
                group = int(network.groups[stage, code])
                members = np.flatnonzero(network.groups[stage] == group)
                bits += information(layer(features, network.group_logits[stage]), group)
                logits = layer(features, network.code_logits[stage])
                bits += information([logits[member] for member in members], members.tolist().index(code))
    return bits


@pytest.mark.parametrize("seed", range(5))
def test_products_are_those_of_integers_in_any_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, weights = random.integers(-127, 256, (40, 1000)), random.integers(-127, 128, (30, 1000))
    exact = torch.from_numpy(values) @ torch.from_numpy(weights).T
    order = random.permutation(1000)
    for chosen in (np.arange(1000), order):
        floats = torch.from_numpy(weights[:, chosen]).double()
        assert np.array_equal(product(values[:, chosen], floats), exact.numpy())


def test_streams_do_not_depend_on_how_products_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (levels, _) = fitted("parallel")
    stream = written(network, levels)

    def by_integers(values: Integers, weights: torch.Tensor) -> Integers:
        return (torch.from_numpy(values) @ weights.long().T).numpy()

    def backwards(values: Integers, weights: torch.Tensor) -> Integers:
        return product(values[:, ::-1].copy(), weights.flip(1))

    for instead in (by_integers, backwards):
        with monkeypatch.context() as patched:
            patched.setattr("flatvq.codec.network.product", instead)
            assert written(network, levels) == stream


def test_streams_do_not_depend_on_threads() -> None:
    network, (levels, _) = fitted()
    before = torch.get_num_threads()
    streams = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        streams.append(written(network, levels))
    torch.set_num_threads(before)
    assert streams[0] == streams[1]


def test_a_finer_level_takes_fewer_bits_where_it_follows_from_the_coarser_one() -> None:
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 4, (1, 8, 8)) for _ in range(40)]
    fine = [np.kron(grid[0], np.ones((2, 2), np.int64))[None] for grid in coarse]
    vectors = [random.normal(size=(1, 4, 2)) for _ in range(2)]
    alone = fit_network([fine[:39]], vectors[:1], steps=80)
    both = fit_network([fine[:39], coarse[:39]], vectors, steps=80)
    assert len(written(both, [fine[39], coarse[39]])) < 0.5 * len(written(alone, [fine[39]]))


@pytest.mark.parametrize("kind", ["one level", "residual", "parallel"])
def test_integers_take_as_many_bits_as_the_network_that_was_trained(kind: str) -> None:
    model = tokenizer(kind)
    encoded = [indices_of(model, image(60, 84, seed)) for seed in range(7)]
    vectors = [_code_vectors(model, level) for level in range(len(model.recipe.levels))]
    sizes = [each.shape[1] for each in vectors]

    def cells_of(images: list[list[Integers]]) -> Cells:
        coarser = ([each[1] for each in images], sizes[1]) if len(sizes) > 1 else None
        return Cells([each[0] for each in images], sizes[0], coarser)

    marginal = np.stack([digits[0] for digits in digit_counts([each[0] for each in encoded[:6]], sizes[0])])
    trained = FloatNetwork(vectors[0], vectors[1] if len(vectors) > 1 else None, marginal, 0)
    train_network(trained, cells_of(encoded[:6]), steps=60, seed=0)
    held_out = cells_of(encoded[6:])
    with torch.no_grad():
        nats = sum(float(trained.nats(sample)) for sample in held_out.samples(np.arange(len(held_out))))
    bits = nats / np.log(2)
    coded = 8 * len(written(quantized(trained, cells_of(encoded[:6]), 0), encoded[6]))
    assert 0.98 * bits <= coded <= 1.02 * bits + 8


def test_training_depends_on_the_seed_alone() -> None:
    model = tokenizer()
    grids = [[indices_of(model, image(40, 40, seed))[0] for seed in range(3)]]
    vectors = [_code_vectors(model, 0)]
    first, again, other = (fit_network(grids, vectors, steps=5, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.embeddings, again.embeddings)
    assert np.array_equal(first.first, again.first)
    assert np.array_equal(first.code_logits[0].weights, again.code_logits[0].weights)
    assert not np.array_equal(first.first, other.first)


def test_golden_bytes_of_a_network() -> None:
    """The arithmetic is on integers, so every machine writes these bytes."""
    random = np.random.Generator(np.random.PCG64(8))
    levels = [random.integers(0, 11, (2, 9, 7)), random.integers(0, 6, (2, 5, 4))]
    stream = written(drawn_network(7, stages=2, size=11, coarser=6), levels)
    assert stream.hex() == (
        "30536a1dd98c4c7f031acf0278be691523832a7faeeda97cc3a1f1d28d0eb5874b5fc9648cf51afd9b5bb717"
        "e4c2401b5d2d74c4c9a6db02b765230426f73fa03054f400dee391d688a27d177aed1671ea8a8b67fd9c146b80af33"
    )
