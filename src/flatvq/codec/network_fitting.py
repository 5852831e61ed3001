"""Fits the network prior of one level: trains it in floating-point numbers, and turns it into integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flatvq.codec.entropy import Integers
from flatvq.codec.fitting import Floats, digit_counts
from flatvq.codec.network import Network
from flatvq.codec.network_quantizing import quantized
from flatvq.codec.network_training import FloatNetwork, train_network
from flatvq.codec.samples import Cells

__all__ = ["STEPS", "fit_network"]

STEPS = 2000
"""Training steps of a network, by default."""


def fit_network(
    grids: Sequence[Sequence[Integers]],
    vectors: Sequence[Floats],
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Network:
    """Fit the network prior of a level.

    The same seed, number of threads and machine give the same network.

    Args:
        grids: int64 [Q, h, w] of each image: of the level, and of the next coarser level if there is one.
        vectors: [Q, K, D], code vectors of the same levels.
        steps: the largest number of training steps. Few images take fewer.
        seed: the seed of the training.
        progress: takes the training steps that are done, and their number.
    """
    sizes = [each.shape[1] for each in vectors]
    coarser = (grids[1], sizes[1]) if len(grids) > 1 else None
    cells = Cells(grids[0], sizes[0], coarser)
    marginal = np.stack([digits[0] for digits in digit_counts(grids[0], sizes[0])])
    network = FloatNetwork(vectors[0], vectors[1] if coarser else None, marginal, seed)
    train_network(network, cells, steps=steps, seed=seed, progress=progress)
    return quantized(network, cells, seed)
