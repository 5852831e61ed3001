"""The arrays of a network in prior.safetensors."""

from __future__ import annotations

import numpy as np

from flatvq.codec.arrays import Arrays, LevelArrays
from flatvq.codec.entropy import Integers
from flatvq.codec.network import LARGEST, Linear, Network, NetworkLevel, inputs_of
from flatvq.codec.passes import PASSES
from flatvq.codec.prior import indices_per_cell
from flatvq.recipe import LevelRecipe

__all__ = ["network_arrays", "network_level"]

# The inputs of a chunk of cells then take at most 160 MB.
_MOST_DIMS = 128
_WIDEST = 1024
_LARGEST_MULTIPLIER = 2**31 - 1


def network_arrays(number: int, network: Network) -> Arrays:
    """Return the arrays of the network of a level.

    Args:
        number: the level, from 0.
        network: the network.
    """
    fields: Arrays = {
        "embeddings": network.embeddings.astype(np.int8),
        "coarser": network.coarser.astype(np.int8),
        "first": network.first.astype(np.int8),
        "first_multipliers": network.first_multipliers.astype(np.uint32),
        "first_biases": network.first_biases.astype(np.int32),
        "groups": network.groups.astype(np.uint16),
        **_layer_arrays("middle", [network.middle]),
        **_layer_arrays("features", [network.features]),
        **_layer_arrays("group_logits", network.group_logits),
        **_layer_arrays("code_logits", network.code_logits),
    }
    return {f"{number}.{name}": np.ascontiguousarray(array) for name, array in fields.items()}


def network_level(level: LevelRecipe, coarser: LevelRecipe | None, fields: LevelArrays) -> NetworkLevel:
    """Build the prior of a level from its arrays.

    Args:
        level: the level.
        coarser: the next coarser level; None for the top level.
        fields: the arrays.

    Raises:
        FlatvqError: if an array is missing, or does not fit the level.
    """
    stages, size = indices_per_cell(level), level.codebook_size
    embeddings = _eight_bits(fields, "embeddings", (stages, size + 1, None))
    dim = embeddings.shape[2]
    above = (0, 1) if coarser is None else (indices_per_cell(coarser), coarser.codebook_size + 1)
    first = _eight_bits(fields, "first", (2, None, inputs_of(stages, coarser is not None), dim))
    hidden = first.shape[1]
    features = _layers(fields, "features", (1, None, hidden))[0]
    width = len(features.weights)
    group_logits = _layers(fields, "group_logits", (stages, None, width))
    count = len(group_logits[0].weights)
    if not 0 < dim <= _MOST_DIMS or not 0 < hidden <= _WIDEST or not 0 < width <= _WIDEST or not count:
        raise fields.error(f"a network of {dim} dimensions and of {hidden} and {width} activations")
    groups = fields.take("groups", "uint16", (stages, size), high=count - 1)
    if any(len(np.unique(stage_groups)) < count for stage_groups in groups):
        raise fields.error("groups without codes")
    return NetworkLevel(
        Network(
            embeddings=embeddings,
            coarser=_eight_bits(fields, "coarser", (*above, dim)),
            first=first,
            first_multipliers=_multipliers(fields, "first_multipliers", (2, hidden)),
            first_biases=_biases(fields, "first_biases", (PASSES, stages, hidden)),
            middle=_layers(fields, "middle", (1, hidden, hidden))[0],
            features=features,
            groups=groups,
            group_logits=group_logits,
            code_logits=_layers(fields, "code_logits", (stages, size, width)),
        )
    )


def _layer_arrays(name: str, layers: tuple[Linear, ...] | list[Linear]) -> Arrays:
    return {
        name: np.stack([layer.weights for layer in layers]).astype(np.int8),
        f"{name}_multipliers": np.stack([layer.multipliers for layer in layers]).astype(np.uint32),
        f"{name}_biases": np.stack([layer.biases for layer in layers]).astype(np.int32),
    }


def _layers(fields: LevelArrays, name: str, shape: tuple[int, int | None, int]) -> tuple[Linear, ...]:
    """Take layers, for the number of them and the numbers of their outputs and inputs."""
    weights = _eight_bits(fields, name, shape)
    multipliers = _multipliers(fields, f"{name}_multipliers", weights.shape[:2])
    biases = _biases(fields, f"{name}_biases", weights.shape[:2])
    return tuple(Linear(*layer) for layer in zip(weights, multipliers, biases, strict=True))


def _eight_bits(fields: LevelArrays, name: str, shape: tuple[int | None, ...]) -> Integers:
    return fields.take(name, "int8", shape, -LARGEST, LARGEST)


def _multipliers(fields: LevelArrays, name: str, shape: tuple[int, ...]) -> Integers:
    return fields.take(name, "uint32", shape, high=_LARGEST_MULTIPLIER)


def _biases(fields: LevelArrays, name: str, shape: tuple[int, ...]) -> Integers:
    return fields.take(name, "int32", shape, -(2**31))
