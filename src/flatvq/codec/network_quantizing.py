"""Turns the network of a network prior into integers of 8 bits, after training.

Axes: Q indices of a cell, K codes, E embedding dim, I inputs (cells), H hidden width, F features.
"""

from __future__ import annotations

from math import log

import numpy as np
import torch
from torch import Tensor

from flatvq.codec.entropy import Integers
from flatvq.codec.neighbourhood import NEIGHBOURS
from flatvq.codec.network import LARGEST, LARGEST_ACTIVATION, SHIFT, Linear, Network
from flatvq.codec.network_training import FloatNetwork
from flatvq.codec.samples import Cells
from flatvq.codec.softmax import STEPS
from flatvq.randomness import generator

__all__ = ["quantized"]

# Cells from which the ranges of activations follow.
_CALIBRATION = 16384
# Ranges of activations are at least this share of the largest one, so that unused ones do not divide by zero.
_SMALLEST = 1e-3
# Rows of logits in one unit: a logit counts steps of an octave.
_STEP = log(2) / STEPS
_LARGEST_MULTIPLIER = 2**31 - 1


@torch.no_grad()
def quantized(network: FloatNetwork, cells: Cells, seed: int) -> Network:
    """Return a trained network as integers.

    Each row of a layer and each dimension of the embeddings is scaled to 8 bits, and each activation by its
    largest value over a sample of cells.

    Args:
        network: the network.
        cells: the cells that it was trained on.
        seed: the seed of the sample.
    """
    hidden, features = _ranges(network, cells, seed)
    hidden, features = hidden / LARGEST_ACTIVATION, features / LARGEST
    own, above = _scales(network.embeddings), _scales(network.coarser)
    # The first layer undoes the scale of its inputs: known cells, coarser cells, the cell itself.
    coarser_cells = network.first.shape[2] - NEIGHBOURS - (len(network.groups) > 1)
    units = torch.cat([own.repeat(NEIGHBOURS), above.repeat(coarser_cells), own])[
        : network.first[0, 0].numel()
    ]
    nothing = torch.zeros(len(hidden))
    first = [_linear(weights.flatten(1) * units, nothing, hidden) for weights in network.first]
    return Network(
        embeddings=_integers(network.embeddings / own),
        coarser=_integers(network.coarser / above),
        first=np.stack([layer.weights for layer in first]).reshape(network.first.shape),
        first_multipliers=np.stack([layer.multipliers for layer in first]),
        first_biases=_integers(network.first_biases / hidden),
        middle=_linear(network.middle * hidden, network.middle_biases, hidden),
        features=_linear(network.features * hidden, network.feature_biases, features),
        groups=network.groups.numpy(),
        group_logits=_logits(network.group_logits, network.group_biases, features),
        code_logits=_logits(network.code_logits, network.code_biases, features),
    )


def _ranges(network: FloatNetwork, cells: Cells, seed: int) -> tuple[Tensor, Tensor]:
    """Return the largest value of each hidden activation, [H], and magnitude of each feature, [F]."""
    random = generator(seed, "calibration")
    drawn = torch.randint(len(cells), (_CALIBRATION,), generator=random).numpy()
    largest: list[tuple[Tensor, Tensor]] = []
    for sample in cells.samples(drawn):
        for stage in range(len(network.embeddings)):
            after, features = network.hidden(sample, stage)
            largest.append((after.amax(dim=0), features.abs().amax(dim=0)))
    hidden, feature_ranges = (torch.stack(each).amax(dim=0) for each in zip(*largest, strict=True))
    return _not_small(hidden), _not_small(feature_ranges)


def _scales(embeddings: Tensor) -> Tensor:
    """Return the unit of each dimension of embeddings, [E]."""
    if not len(embeddings):
        return torch.ones(embeddings.shape[2])
    return _not_small(embeddings.abs().amax(dim=(0, 1))) / LARGEST


def _not_small(ranges: Tensor) -> Tensor:
    return ranges.clamp(min=max(float(ranges.max()) * _SMALLEST, 1e-6))


def _logits(weights: Tensor, biases: Tensor, features: Tensor) -> tuple[Linear, ...]:
    """Return the layer of the logits of each index, for weights [Q, rows, F] and biases [Q, rows]."""
    step = torch.tensor(_STEP)
    # Only differences matter. With a largest bias of zero, biases are far from their limits.
    biases = biases - biases.amax(dim=1, keepdim=True)
    return tuple(
        _linear(stage_weights * features, bias, step)
        for stage_weights, bias in zip(weights, biases, strict=True)
    )


def _linear(weights: Tensor, biases: Tensor, unit: Tensor) -> Linear:
    """Return a layer as integers.

    Args:
        weights: [outputs, inputs], times the units of the inputs.
        biases: [outputs].
        unit: the units of the outputs, [outputs] or a scalar.
    """
    scales = weights.abs().amax(dim=1).clamp(min=1e-12) / LARGEST
    multipliers = (scales.double() / unit * 2**SHIFT).round().clamp(max=_LARGEST_MULTIPLIER)
    return Linear(_integers(weights / scales[:, None]), multipliers.long().numpy(), _integers(biases / unit))


def _integers(values: Tensor) -> Integers:
    integers: Integers = values.double().round().long().numpy()
    return integers
