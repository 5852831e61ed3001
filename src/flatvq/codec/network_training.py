"""Trains the network of a network prior in floating-point numbers; `quantized` turns it into integers.

Axes: Q indices of a cell, K codes, D code dim, E embedding dim, I inputs (cells), H hidden width, F features,
G groups, N cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, log2, pi, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from flatvq.codec.entropy import Integers
from flatvq.codec.fitting import Floats
from flatvq.codec.network import inputs_of
from flatvq.codec.passes import PASSES
from flatvq.codec.samples import Cells, Sample
from flatvq.randomness import generator

__all__ = ["FloatNetwork", "groups_of", "train_network"]

EMBEDDING, HIDDEN, FEATURES = 32, 128, 64
"""E, H and F."""

_BATCH = 4096
# Training uses each cell at most this many times.
_EPOCHS = 12
_FEWEST_STEPS = 50
_RATE, _LAST_RATE, _WARMUP = 3e-3, 3e-5, 50
_WEIGHT_DECAY = 0.01


class FloatNetwork(nn.Module):
    """The network of `flatvq.codec.network.Network`, in floating-point numbers.

    Args:
        vectors: [Q, K, D], code vectors, from which embeddings and logits start.
        coarser: the same for the next coarser level; None if there is none.
        marginal: [Q, K], how often each code occurs.
        seed: the seed of the other parameters.
    """

    def __init__(self, vectors: Floats, coarser: Floats | None, marginal: Integers, seed: int) -> None:
        super().__init__()
        stages = len(vectors)
        random = generator(seed, "network")
        self.groups = torch.from_numpy(np.stack([groups_of(each) for each in vectors]))
        self.embeddings = nn.Parameter(_embeddings(vectors, random))
        above = _embeddings(coarser, random) if coarser is not None else torch.zeros(0, 1, EMBEDDING)
        self.coarser = nn.Parameter(above)
        inputs = inputs_of(stages, coarser is not None)
        self.first = nn.Parameter(_uniform((2, HIDDEN, inputs, EMBEDDING), inputs * EMBEDDING, random))
        self.first_biases = nn.Parameter(torch.zeros(PASSES, stages, HIDDEN))
        self.middle = nn.Parameter(_uniform((HIDDEN, HIDDEN), HIDDEN, random))
        self.middle_biases = nn.Parameter(torch.zeros(HIDDEN))
        self.features = nn.Parameter(_uniform((FEATURES, HIDDEN), HIDDEN, random))
        self.feature_biases = nn.Parameter(torch.zeros(FEATURES))
        logits = _principal(vectors, FEATURES, random) * 0.3
        self.code_logits = nn.Parameter(logits)
        frequencies = torch.from_numpy(marginal).float() + 0.5
        self.code_biases = nn.Parameter((frequencies / frequencies.sum(dim=1, keepdim=True)).log())
        count = int(self.groups.max()) + 1
        members = functional.one_hot(self.groups, count).float().transpose(1, 2)
        sums, totals = members @ logits, members.sum(dim=2)
        self.group_logits = nn.Parameter(sums / totals[:, :, None])
        in_group = (members @ frequencies[:, :, None])[:, :, 0]
        self.group_biases = nn.Parameter((in_group / in_group.sum(dim=1, keepdim=True)).log())

    def hidden(self, sample: Sample, stage: int) -> tuple[Tensor, Tensor]:
        """Return the hidden activations, [N, H], and the features, [N, F]."""
        stages = len(self.embeddings)
        inputs = [_embedded(self.embeddings, sample.known)]
        if len(self.coarser):
            inputs.append(_embedded(self.coarser, sample.above))
        if stages > 1:
            inputs.append(_embedded(self.embeddings[:stage], sample.codes[:stage, :, None]))
        first = self.first[sample.kind].flatten(1)
        before = torch.cat(inputs, dim=1) @ first.T + self.first_biases[sample.numbers, stage]
        before = functional.relu(before)
        after = before + functional.relu(functional.linear(before, self.middle, self.middle_biases))
        return after, functional.linear(after, self.features, self.feature_biases)

    def nats(self, sample: Sample) -> Tensor:
        """Return the cross-entropy of the codes of a sample, summed, in nats."""
        return torch.stack([self._stage_nats(sample, stage) for stage in range(len(self.embeddings))]).sum()

    def _stage_nats(self, sample: Sample, stage: int) -> Tensor:
        features, codes = self.hidden(sample, stage)[1], sample.codes[stage]
        groups = self.groups[stage][codes]
        logits = functional.linear(features, self.group_logits[stage], self.group_biases[stage])
        total = functional.cross_entropy(logits, groups, reduction="sum")
        # The codes and the cells of each group together.
        by_group, order = self.groups[stage].argsort(stable=True), groups.argsort(stable=True)
        sizes = self.groups[stage].bincount().tolist()
        counts = groups.bincount(minlength=len(sizes)).tolist()
        for group_features, targets, members, weights, biases in zip(
            torch.split(features[order], counts),
            torch.split(codes[order], counts),
            torch.split(by_group, sizes),
            torch.split(self.code_logits[stage][by_group], sizes),
            torch.split(self.code_biases[stage][by_group], sizes),
            strict=True,
        ):
            logits = functional.linear(group_features, weights, biases)
            places = torch.searchsorted(members, targets)
            total = total + functional.cross_entropy(logits, places, reduction="sum")
        return total


def train_network(
    network: FloatNetwork,
    cells: Cells,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train a network on the cells of images.

    Args:
        network: the network, which is changed.
        cells: the cells.
        steps: the largest number of steps. Few cells take fewer.
        seed: the seed of the order of the cells.
        progress: takes the steps that are done, and their number.
    """
    batch = min(_BATCH, max(len(cells) // 8, 1))
    steps = min(steps, max(_EPOCHS * len(cells) // batch, _FEWEST_STEPS))
    random = generator(seed, "batches")
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        drawn = torch.randint(len(cells), (batch,), generator=random).numpy()
        loss = torch.stack([network.nats(sample) for sample in cells.samples(drawn)]).sum() / batch
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, steps)


def groups_of(vectors: Floats) -> Integers:
    """Divide codes into groups of similar ones, of equal sizes as far as possible.

    The codes are halved again and again across the direction in which their vectors differ most, until there
    are about as many groups as codes in each.

    Args:
        vectors: [K, D].

    Returns:
        int64 [K]: the group of each code.

    Example:
        >>> groups_of(np.array([[0.0], [9.0], [1.0], [8.0]])).tolist()
        [0, 1, 0, 1]
    """
    parts = [np.arange(len(vectors))]
    for _ in range(round(log2(len(vectors)) / 2)):
        parts = [half for part in parts for half in _halves(part, vectors[part])]
    groups = np.zeros(len(vectors), np.int64)
    for number, part in enumerate(parts):
        groups[part] = number
    return groups


def _halves(codes: Integers, vectors: Floats) -> tuple[Integers, Integers]:
    centred = vectors - vectors.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    # The sign of a singular vector is not defined.
    direction *= np.sign(direction[np.abs(direction).argmax()]) or 1
    order = codes[(centred @ direction).argsort(kind="stable")]
    middle = (len(order) + 1) // 2
    return order[:middle], order[middle:]


def _rate(step: int, steps: int) -> float:
    falling = _LAST_RATE + (_RATE - _LAST_RATE) * (1 + cos(pi * step / steps)) / 2
    return falling * min(1.0, (step + 1) / _WARMUP)


def _uniform(shape: Sequence[int], inputs: int, random: torch.Generator) -> Tensor:
    return (2 * torch.rand(*shape, generator=random) - 1) / sqrt(inputs)


def _principal(vectors: Floats, dim: int, random: torch.Generator) -> Tensor:
    """Return the first principal components of code vectors, [Q, K, dim], and small noise."""
    points = torch.from_numpy(vectors).float()
    centred: Tensor = points - points.mean(dim=1, keepdim=True)
    components: Tensor = centred @ torch.linalg.svd(centred, full_matrices=False)[2].transpose(1, 2)
    scale = components.square().mean().sqrt().clamp(min=1e-12)
    start: Tensor = 0.1 * torch.randn(*points.shape[:2], dim, generator=random)
    shared = min(dim, components.shape[2])
    start[:, :, :shared] += components[:, :, :shared] / scale
    return start


def _embeddings(vectors: Floats, random: torch.Generator) -> Tensor:
    """Return [Q, K + 1, E]; zero for a cell that is not known."""
    return functional.pad(_principal(vectors, EMBEDDING, random), (0, 0, 0, 1))


def _embedded(embeddings: Tensor, codes: Tensor) -> Tensor:
    """Return the embeddings of cells, [N, cells x E], for codes [Q, N, cells]."""
    shape = (*codes.shape[1:], embeddings.shape[2])
    total = torch.zeros(shape)
    for vectors, of_stage in zip(embeddings, codes, strict=True):
        total = total + vectors[of_stage]
    return total.flatten(1)
