"""Dead-code replacement: encoder outputs of the current batch replace inactive codes, on a schedule.

A code is inactive if its average number of vectors per step is below a fraction of uniform use. The rule does
not depend on batch size, grid and codebook size.

Axes: N vectors of this process, K codes, D code dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.quantize.checks import real_number, whole_number
from flatvq.quantize.distributed import Ranks
from flatvq.quantize.init import distinct_rows
from flatvq.randomness import generator

__all__ = ["DeadCodeReplacement", "ReplacementEvent", "draw_replacements", "unbiased_counts"]

# The purpose of the random draw (`flatvq.randomness`). It is part of the training protocol: another string
# would train other weights.
_DRAW = "revival"
# Relative error of a count after many steps, generously.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class DeadCodeReplacement:
    """When and how inactive codes are replaced.

    Args:
        every: number of steps between two events.
        start: first step at which an event may happen.
        stop: first step at which no event happens any more; None for no end. In a recipe,
            `codebook.replacement.stop` is a share of the training steps.
        fraction: a code is inactive below this fraction of uniform use, which is vectors per step / K.
        count: if given, a code is inactive below this number of vectors per step instead of `fraction`.
            `DeadCodeReplacement(every=1, count=2.0)` is the policy of Reyhanian & Wiskott (arXiv 2601.22244),
            and of vector-quantize-pytorch with `threshold_ema_dead_code=2`.
        share: largest share of the codebook that one event replaces, but at least one code. The least used
            codes are replaced first.
        grace: number of steps after init or replacement in which a code is not replaced.
    """

    every: int = 50
    start: int = 0
    stop: int | None = None
    fraction: float = 0.1
    share: float = 1.0
    grace: int = 0
    count: float | None = None

    def __post_init__(self) -> None:
        whole_number("DeadCodeReplacement(every)", self.every, 1)
        whole_number("DeadCodeReplacement(start)", self.start, 0)
        whole_number("DeadCodeReplacement(grace)", self.grace, 0)
        if self.stop is not None:
            whole_number("DeadCodeReplacement(stop)", self.stop, 0)
        real_number("DeadCodeReplacement(fraction)", self.fraction, above=0.0)
        real_number("DeadCodeReplacement(share)", self.share, above=0.0, below=1.0, closed="]")
        if self.count is not None:
            real_number("DeadCodeReplacement(count)", self.count, above=0.0)

    def least_use(self, vectors: int, codebook_size: int) -> float:
        """Return the number of vectors per step below which `Codebook` counts a code as inactive.

        Args:
            vectors: number of vectors of the batch, over all processes.
            codebook_size: K.

        Example:
            >>> DeadCodeReplacement(fraction=0.5).least_use(vectors=4096, codebook_size=1024)
            2.0
            >>> DeadCodeReplacement(count=3.0).least_use(vectors=4096, codebook_size=1024)
            3.0
        """
        return self.fraction * vectors / codebook_size if self.count is None else self.count

    def due(self, step: int) -> bool:
        """Return whether an event happens at a step.

        Args:
            step: the training step, counted from 0.

        Example:
            >>> [step for step in range(12) if DeadCodeReplacement(every=3, start=4, stop=10).due(step)]
            [6, 9]
        """
        stopped = self.stop is not None and step >= self.stop
        return step > 0 and step >= self.start and not stopped and step % self.every == 0


@dataclass(frozen=True)
class ReplacementEvent:
    """A record of one event."""

    step: int
    """Training step, counted from 0."""
    inactive: int
    """Number of inactive codes."""
    replaced: int
    """Number of codes that were replaced."""
    survived: float | None
    """Share of the codes replaced by the previous event that are active now; None if there were none."""


def unbiased_counts(counts: Tensor, age: Tensor, decay: float) -> Tensor:
    """Return the average number of vectors per step of each code since its init or replacement.

    A moving average starts at 1, the count of one virtual vector. The start is subtracted and the rest scaled
    up, as in Adam (Kingma & Ba 2015, section 3). Without this correction, the counts of young codes would
    depend more on the start than on their use.

    A count that is smaller than the rest of its start was not averaged over `age` steps: tools that average
    all buffers of models average counts and steps separately. Such a count is returned as it is.

    Args:
        counts: moving averages, float32 [K].
        age: steps since init or replacement, int64 [K].
        decay: the decay of the moving averages.

    Returns:
        float32 [K]; infinity for a code of age 0, which had no step to be used in.

    Example:
        A code of age 1 that got 3 vectors in its only step:

        >>> unbiased_counts(torch.tensor([0.75 * 1 + 0.25 * 3]), torch.tensor([1]), decay=0.75)
        tensor([3.])
    """
    weight_of_start = decay ** age.float()
    use = (counts - weight_of_start) / (1 - weight_of_start)
    use = torch.where(counts < (1 - _ROUNDING) * weight_of_start, counts, use)
    return use.masked_fill(age == 0, torch.inf)


def draw_replacements(
    vectors: Tensor, count: int, seed: int, step: int, ranks: Ranks, counts: Sequence[int]
) -> Tensor:
    """Draw encoder outputs of the current batch of all processes, without replacement.

    Args:
        vectors: float32 [N, D], the vectors of this process.
        count: the number of rows to draw.
        seed: the seed of the draw, together with the step.
        step: the training step.
        ranks: the processes.
        counts: the number of vectors of each process.

    Returns:
        float32 [R, D] with R <= count: the distinct rows among those drawn, without zeros.

    Example:
        >>> vectors = torch.tensor([[1.0], [1.0], [2.0]])
        >>> draw_replacements(vectors, 3, seed=0, step=5, ranks=Ranks(), counts=[3]).flatten().tolist()
        [1.0, 2.0]
    """
    if not count:
        return vectors[:0]
    order = torch.randperm(sum(counts), generator=generator(seed, _DRAW, step), device="cpu")[:count]
    return distinct_rows(ranks.take(vectors, order.to(vectors.device), counts))
