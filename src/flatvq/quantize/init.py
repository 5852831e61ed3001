"""The first codes: from a distribution, from the data, or from k-means on the data.

Axes: M gathered vectors, K codes, D code dim. The functions are deterministic in their generator, and so give
the same codes on every process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.errors import FlatvqError, nearest
from flatvq.nearest import code_sums, nearest_codes
from flatvq.quantize.checks import whole

__all__ = [
    "DataInit",
    "Init",
    "Initialized",
    "KMeansInit",
    "RandomInit",
    "distinct_rows",
    "kmeans",
    "random_codes",
]

Distribution = Literal["normal", "uniform", "kaiming"]


@dataclass(frozen=True)
class RandomInit:
    """Codes that know nothing of the data, in one of the three ways that common code uses.

    Args:
        distribution: `normal`: N(0, 1), as in rosinality's VQ-VAE-2; `uniform`: within +-1/K, as in
            taming-transformers; `kaiming`: within +-sqrt(6 / (K D)), as vector-quantize-pytorch gets from
            Kaiming's rule on its [1, K, D] array.
    """

    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        known = get_args(Distribution)
        if self.distribution not in known:
            what = f"unknown distribution {self.distribution!r}"
            raise FlatvqError(what, nearest(self.distribution, known))


@dataclass(frozen=True)
class DataInit:
    """Codes are encoder outputs of the first training batches, drawn without replacement.

    Args:
        vectors_per_code: gather this many vectors per code before the final draw.
    """

    vectors_per_code: int = 8

    def __post_init__(self) -> None:
        whole("DataInit(vectors_per_code)", self.vectors_per_code, 1)

    def draw(self, vectors: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
        """Choose `codebook_size` different rows of [M, D]."""
        return _completed(_shuffled(distinct_rows(vectors), random)[:codebook_size], codebook_size, random)


@dataclass(frozen=True)
class KMeansInit:
    """Codes are the means of k-means over encoder outputs of the first training batches.

    Args:
        vectors_per_code: gather this many vectors per code before the final draw.
        iterations: Lloyd's iterations.
    """

    vectors_per_code: int = 8
    iterations: int = 10

    def __post_init__(self) -> None:
        whole("KMeansInit(vectors_per_code)", self.vectors_per_code, 1)
        whole("KMeansInit(iterations)", self.iterations, 0)

    def draw(self, vectors: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
        """Cluster the rows of [M, D] into `codebook_size` means."""
        distinct = distinct_rows(vectors)
        if len(distinct) <= codebook_size:
            return _completed(distinct, codebook_size, random)
        means = kmeans(_shuffled(vectors, random), codebook_size, self.iterations, random)
        return _completed(distinct_rows(means), codebook_size, random)


Init = RandomInit | DataInit | KMeansInit


@dataclass(frozen=True)
class Initialized:
    """The first codes."""

    code_vectors: Tensor
    """float32 [K, D]: all different, none of them zero."""
    filled: int
    """How many were made up by jitter because there were too few different vectors."""


def random_codes(size: int, dim: int, distribution: str, random: torch.Generator) -> Tensor:
    """Draw a codebook [size, dim] that knows nothing of the data.

    Example:
        >>> codes = random_codes(4, 2, "uniform", torch.Generator().manual_seed(0))
        >>> codes.shape, bool(codes.abs().max() <= 1 / 4)
        (torch.Size([4, 2]), True)
    """
    if distribution == "normal":
        return torch.randn(size, dim, generator=random, dtype=torch.float32, device="cpu")
    bound = 1 / size if distribution == "uniform" else math.sqrt(6 / (size * dim))
    return (torch.rand(size, dim, generator=random, dtype=torch.float32, device="cpu") * 2 - 1) * bound


def kmeans(vectors: Tensor, clusters: int, iterations: int, random: torch.Generator) -> Tensor:
    """Cluster vectors: k-means++ (Arthur & Vassilvitskii 2007), then Lloyd's iterations.

    Above 64 clusters the first means are drawn in 64 rounds rather than one by one, several per round from
    the same D^2 distribution, as k-means|| does (Bahmani et al. 2012): the cost stays O(M K D) once.

    Args:
        vectors: float32 [M, D], M >= clusters.
        clusters: K.
        iterations: of Lloyd; a cluster that runs empty moves to the vector farthest from its mean.
        random: source of the draws.

    Returns:
        Means float32 [K, D].

    Example:
        >>> points = torch.tensor([[0.0], [0.2], [9.0], [9.2]])
        >>> kmeans(points, 2, 5, torch.Generator().manual_seed(0)).sort(dim=0).values.round(decimals=3)
        tensor([[0.1000],
                [9.1000]])
    """
    means = _plus_plus(vectors, clusters, random)
    for _ in range(iterations):
        nearest = nearest_codes(vectors, means)
        counts, sums = code_sums(vectors, nearest, clusters)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], means)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            distance = (vectors - means[nearest]).square().sum(dim=1)
            means[empty] = vectors[distance.argsort(descending=True, stable=True)[: len(empty)]]
    return means


def _plus_plus(vectors: Tensor, clusters: int, random: torch.Generator) -> Tensor:
    first = torch.randint(len(vectors), (1,), generator=random, device="cpu").to(vectors.device)
    chosen = first
    distance = (vectors - vectors[first]).square().sum(dim=1)
    per_round = math.ceil(clusters / 64)
    while len(chosen) < clusters:
        wanted = min(per_round, clusters - len(chosen))
        # Already chosen rows are at distance zero; the floor keeps the draw defined when too few rows differ.
        weights = distance.double().cpu() + torch.finfo(torch.float64).tiny
        fresh = _weighted_draw(weights, wanted, random).to(vectors.device)
        chosen = torch.cat([chosen, fresh])
        nearest = nearest_codes(vectors, vectors[fresh])
        distance = distance.minimum((vectors - vectors[fresh[nearest]]).square().sum(dim=1))
    return vectors[chosen]


def _weighted_draw(weights: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw positions without replacement with probability proportional to weight.

    Exponential races (Efraimidis & Spirakis 2006); unlike torch.multinomial, any number of weights will do.
    """
    race = torch.empty_like(weights).exponential_(generator=random) / weights
    return race.argsort(stable=True)[:count]


def distinct_rows(vectors: Tensor) -> Tensor:
    """Drop repeated rows and rows of zeros, in an order that depends on the values alone.

    Example:
        >>> distinct_rows(torch.tensor([[2.0], [0.0], [1.0], [2.0]])).flatten().tolist()
        [1.0, 2.0]
    """
    # As torch.unique does, in its order; but that compares whole rows, and takes ten times as long. Rows are
    # sorted by their first two numbers, and only different ones that tie in both are left to it.
    keys, order = _first_two(vectors).sort(stable=True)
    rows = vectors[order]
    if bool((keys[1:] == keys[:-1]).any()):
        again = F.pad((rows[1:] == rows[:-1]).all(dim=1), (1, 0))
        rows, keys = rows[~again], keys[~again]
        same = keys[1:] == keys[:-1]
        tied = F.pad(same, (1, 0)) | F.pad(same, (0, 1))
        rows = torch.cat([torch.unique(rows[tied], dim=0), rows[~tied]])
        rows = rows[_first_two(rows).argsort(stable=True)]
    return rows[rows.any(dim=1)]


def _first_two(rows: Tensor) -> Tensor:
    """Integers [N] in the order of the first two numbers of float32 [N, D]."""
    bits = (rows[:, :2] + 0.0).view(torch.int32).long()  # the sum makes 0.0 of -0.0
    numbers = bits ^ (bits >> 63 & 0x7FFFFFFF)  # negative floats are the other way round
    return numbers[:, 0] * 2**32 + numbers[:, -1]


def _shuffled(vectors: Tensor, random: torch.Generator) -> Tensor:
    return vectors[torch.randperm(len(vectors), generator=random, device="cpu").to(vectors.device)]


def _completed(codes: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
    """Make up what is missing from jittered copies, so that no two codes are the same and none is zero."""
    filled = codebook_size - len(codes)
    models, scale = codes.new_zeros(1, codes.shape[1]), 1.0
    if len(codes):
        models, scale = codes, 0.01 * (float(codes.std(correction=0)) or float(codes.abs().max()))
    while len(codes) < codebook_size:
        missing = codebook_size - len(codes)
        noise = torch.randn(missing, codes.shape[1], generator=random, dtype=torch.float32, device="cpu")
        copies = models[torch.arange(missing, device=codes.device) % len(models)] + scale * noise.to(
            codes.device
        )
        codes = distinct_rows(torch.cat([codes, copies]))
        # Where the jitter rounded away beside large values, a wider one does not.
        scale *= 2
    return Initialized(codes, filled)
