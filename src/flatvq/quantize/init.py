"""Init of a codebook: codes from a distribution, from data, or from k-means on data.

The functions depend on their arguments and generator only, so every process computes the same codes.

Axes: M gathered vectors, K codes, D code dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.errors import FlatvqError, suggestion
from flatvq.nearest import code_sums, nearest_codes
from flatvq.quantize.checks import whole_number

__all__ = [
    "GATHER_DRAW",
    "INIT_DRAW",
    "DataInit",
    "Init",
    "InitEvent",
    "Initialized",
    "KMeansInit",
    "RandomInit",
    "distinct_rows",
    "kmeans",
    "random_codes",
]

# The purposes of random draws (`flatvq.randomness`). They are part of the training protocol: other strings
# would train other weights.
INIT_DRAW = "seeding"
"""Purpose of the draw of codes."""
GATHER_DRAW = "gathering"
"""Purpose of the choice of vectors that codes are drawn from."""

Distribution = Literal["normal", "uniform", "kaiming"]


@dataclass(frozen=True)
class InitEvent:
    """A record of how the first codes were chosen."""

    step: int
    """Training step, counted from 0, of the final draw."""
    method: str
    """Class name of the init; `set_code_vectors` for codes that the user set."""
    vectors: int
    """Number of encoder outputs that the codes were drawn from."""
    filled: int
    """Number of codes that are jittered copies, because there were too few distinct vectors."""


@dataclass(frozen=True)
class RandomInit:
    """Init with random codes, independent of the data, from one of three distributions in common use.

    Args:
        distribution: `normal`: N(0, 1), as in the VQ-VAE-2 of rosinality; `uniform`: uniform in [-1/K, 1/K],
            as in taming-transformers; `kaiming`: uniform within +-sqrt(6 / (K D)), as the Kaiming init of
            vector-quantize-pytorch for its [1, K, D] array.

    Raises:
        FlatvqError: if the distribution is unknown.

    Example:
        >>> RandomInit("kaiming")
        RandomInit(distribution='kaiming')
    """

    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        known = get_args(Distribution)
        if self.distribution not in known:
            what = f"unknown distribution {self.distribution!r}"
            raise FlatvqError(what, suggestion(self.distribution, known))


@dataclass(frozen=True)
class DataInit:
    """Init with encoder outputs of training batches, drawn without replacement.

    Args:
        vectors_per_code: number of vectors to gather per code before the final draw.
        start: the step at which gathering begins. Until then each batch is quantized to codes drawn from it,
            so that the encoder has learned something by the time of the final draw.
    """

    vectors_per_code: int = 8
    start: int = 0

    def __post_init__(self) -> None:
        whole_number("DataInit(vectors_per_code)", self.vectors_per_code, 1)
        whole_number("DataInit(start)", self.start, 0)

    def draw(self, vectors: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
        """Draw distinct rows.

        Args:
            vectors: float32 [M, D], encoder outputs.
            codebook_size: K.
            random: the generator of the draw.

        Returns:
            K code vectors. If there are fewer distinct rows, jittered copies fill the codebook up.
        """
        return _fill_up(_shuffled(distinct_rows(vectors), random)[:codebook_size], codebook_size, random)


@dataclass(frozen=True)
class KMeansInit:
    """Init with the means of k-means on encoder outputs of training batches.

    Args:
        vectors_per_code: number of vectors to gather per code before the final draw.
        iterations: number of Lloyd iterations.
        start: the step at which gathering begins, as in `DataInit`.
    """

    vectors_per_code: int = 8
    iterations: int = 10
    start: int = 0

    def __post_init__(self) -> None:
        whole_number("KMeansInit(start)", self.start, 0)
        whole_number("KMeansInit(vectors_per_code)", self.vectors_per_code, 1)
        whole_number("KMeansInit(iterations)", self.iterations, 0)

    def draw(self, vectors: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
        """Cluster the rows of [M, D] into `codebook_size` means."""
        distinct = distinct_rows(vectors)
        if len(distinct) <= codebook_size:
            return _fill_up(distinct, codebook_size, random)
        means = kmeans(_shuffled(vectors, random), codebook_size, self.iterations, random)
        return _fill_up(distinct_rows(means), codebook_size, random)


Init = RandomInit | DataInit | KMeansInit


@dataclass(frozen=True)
class Initialized:
    """The first codes of a codebook."""

    code_vectors: Tensor
    """float32 [K, D], distinct and not zero."""
    filled: int
    """Number of codes that are jittered copies, because there were too few distinct vectors."""


def random_codes(size: int, dim: int, distribution: str, random: torch.Generator) -> Tensor:
    """Draw random codes [size, dim], as `RandomInit` describes.

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
    """Cluster vectors with k-means++ (Arthur & Vassilvitskii 2007) and Lloyd iterations.

    For more than 64 clusters, the first means are drawn in 64 rounds, several per round from the same D^2
    distribution, as in k-means|| (Bahmani et al. 2012). All rounds together cost O(M K D).

    Args:
        vectors: float32 [M, D], M >= clusters.
        clusters: K.
        iterations: number of Lloyd iterations. An empty cluster moves to the vector that is farthest from
            its mean.
        random: the generator of all draws.

    Returns:
        The means, float32 [K, D].

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
    """Draw the first means [K, D] by k-means++."""
    first = torch.randint(len(vectors), (1,), generator=random, device="cpu").to(vectors.device)
    chosen = first
    distance = (vectors - vectors[first]).square().sum(dim=1)
    per_round = math.ceil(clusters / 64)
    while len(chosen) < clusters:
        count = min(per_round, clusters - len(chosen))
        # Chosen rows are at distance zero. The small term keeps the draw defined with too few distinct rows.
        weights = distance.double().cpu() + torch.finfo(torch.float64).tiny
        new = _weighted_draw(weights, count, random).to(vectors.device)
        chosen = torch.cat([chosen, new])
        nearest = nearest_codes(vectors, vectors[new])
        distance = distance.minimum((vectors - vectors[new[nearest]]).square().sum(dim=1))
    return vectors[chosen]


def _weighted_draw(weights: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw indices without replacement, with probabilities proportional to their weights.

    The smallest of exponential variables with these rates are drawn (Efraimidis & Spirakis 2006). Unlike
    torch.multinomial, this has no limit on the number of weights.
    """
    times = torch.empty_like(weights).exponential_(generator=random) / weights
    return times.argsort(stable=True)[:count]


def distinct_rows(vectors: Tensor) -> Tensor:
    """Return the distinct rows without rows of zeros, in an order that depends on the values only.

    Example:
        >>> distinct_rows(torch.tensor([[2.0], [0.0], [1.0], [2.0]])).flatten().tolist()
        [1.0, 2.0]
    """
    # The result equals torch.unique, which compares whole rows and takes ten times as long. Here rows are
    # sorted by their first two numbers, and torch.unique sorts only distinct rows that are equal in both.
    keys, order = _first_two(vectors).sort(stable=True)
    rows = vectors[order]
    if bool((keys[1:] == keys[:-1]).any()):
        is_repeated = F.pad((rows[1:] == rows[:-1]).all(dim=1), (1, 0))
        rows, keys = rows[~is_repeated], keys[~is_repeated]
        has_equal_key = keys[1:] == keys[:-1]
        tied = F.pad(has_equal_key, (1, 0)) | F.pad(has_equal_key, (0, 1))
        rows = torch.cat([torch.unique(rows[tied], dim=0), rows[~tied]])
        rows = rows[_first_two(rows).argsort(stable=True)]
    return rows[rows.any(dim=1)]


def _first_two(rows: Tensor) -> Tensor:
    """Return integers [N] that sort like the first two numbers of float32 [N, D]."""
    bits = (rows[:, :2] + 0.0).view(torch.int32).long()  # the sum changes -0.0 into 0.0
    numbers = bits ^ (bits >> 63 & 0x7FFFFFFF)  # the bits of negative floats sort in reverse
    return numbers[:, 0] * 2**32 + numbers[:, -1]


def _shuffled(vectors: Tensor, random: torch.Generator) -> Tensor:
    return vectors[torch.randperm(len(vectors), generator=random, device="cpu").to(vectors.device)]


def _fill_up(rows: Tensor, codebook_size: int, random: torch.Generator) -> Initialized:
    """Add jittered copies to distinct rows [R, D] until there are K of them, none of them zero."""
    filled = codebook_size - len(rows)
    originals, scale = rows.new_zeros(1, rows.shape[1]), 1.0
    if len(rows):
        originals, scale = rows, 0.01 * (float(rows.std(correction=0)) or float(rows.abs().max()))
    while len(rows) < codebook_size:
        missing = codebook_size - len(rows)
        noise = torch.randn(missing, rows.shape[1], generator=random, dtype=torch.float32, device="cpu")
        copied = torch.arange(missing, device=rows.device) % len(originals)
        copies = originals[copied] + scale * noise.to(rows.device)
        rows = distinct_rows(torch.cat([rows, copies]))
        # Jitter that is small compared with the values may be rounded away.
        scale *= 2
    return Initialized(rows, filled)
