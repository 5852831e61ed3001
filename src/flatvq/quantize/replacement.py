"""Dead-code replacement: encoder outputs of the current batch replace inactive codes, on a schedule.

A code is inactive when its moving count falls below a fraction of uniform use. This rule means the same at
every batch size, grid and codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.quantize.checks import real, whole
from flatvq.quantize.distributed import Ranks
from flatvq.quantize.init import distinct_rows
from flatvq.randomness import generator

__all__ = ["DeadCodeReplacement", "ReplacementEvent", "replacements"]


@dataclass(frozen=True)
class DeadCodeReplacement:
    """When and how inactive codes are replaced.

    Args:
        every: steps between two events.
        start: first step at which an event may happen.
        stop: step from which none happens any more; None for never.
        fraction: a code is inactive below this fraction of uniform use, which is vectors per step / K.
        count: if given, a code is inactive below this many vectors per step instead, whatever the batch and
            K. `DeadCodeReplacement(every=1, count=2.0)` is the policy of the reference's code, and of
            vector-quantize-pytorch with `threshold_ema_dead_code=2`.
        share: at most this share of the codebook, but at least one code, is replaced in one event, the least
            used first.
        grace: steps for which a code is left alone after its birth, by init or by replacement.
    """

    every: int = 50
    start: int = 0
    stop: int | None = None
    fraction: float = 0.1
    share: float = 1.0
    grace: int = 0
    count: float | None = None

    def __post_init__(self) -> None:
        whole("DeadCodeReplacement(every)", self.every, 1)
        whole("DeadCodeReplacement(start)", self.start, 0)
        whole("DeadCodeReplacement(grace)", self.grace, 0)
        if self.stop is not None:
            whole("DeadCodeReplacement(stop)", self.stop, 0)
        real("DeadCodeReplacement(fraction)", self.fraction, above=0.0)
        real("DeadCodeReplacement(share)", self.share, above=0.0, below=1.0, closed="]")
        if self.count is not None:
            real("DeadCodeReplacement(count)", self.count, above=0.0)

    def least_use(self, vectors: int, codebook_size: int) -> float:
        """Return the vectors per step below which a code is inactive.

        Example:
            >>> DeadCodeReplacement(fraction=0.5).least_use(vectors=4096, codebook_size=1024)
            2.0
            >>> DeadCodeReplacement(count=3.0).least_use(vectors=4096, codebook_size=1024)
            3.0
        """
        return self.fraction * vectors / codebook_size if self.count is None else self.count

    def due(self, step: int) -> bool:
        """Tell whether an event happens at this step, counted from 0.

        Example:
            >>> [step for step in range(12) if DeadCodeReplacement(every=3, start=4, stop=10).due(step)]
            [6, 9]
        """
        stopped = self.stop is not None and step >= self.stop
        return step > 0 and step >= self.start and not stopped and step % self.every == 0


@dataclass(frozen=True)
class ReplacementEvent:
    """What one event did."""

    step: int
    """Training step, counted from 0."""
    inactive: int
    """Codes below the threshold."""
    replaced: int
    """How many of them were replaced."""
    survived: float | None
    """Share of the previous event's newborns that are active now; None if there were none."""


def replacements(
    vectors: Tensor, count: int, seed: int, step: int, ranks: Ranks, counts: Sequence[int]
) -> Tensor:
    """Draw different encoder outputs of the current batch of all processes, without replacement.

    Args:
        vectors: float32 [N, D], this process's.
        count: the number of rows to draw.
        seed: names the draw, together with the step.
        step: the training step.
        ranks: the processes.
        counts: how many vectors each of them holds.

    Returns:
        float32 [R, D] with R <= count: repeats among the drawn, and zeros, are left out.

    Example:
        >>> vectors = torch.tensor([[1.0], [1.0], [2.0]])
        >>> replacements(vectors, 3, seed=0, step=5, ranks=Ranks(), counts=[3]).flatten().tolist()
        [1.0, 2.0]
    """
    if not count:
        return vectors[:0]
    order = torch.randperm(sum(counts), generator=generator(seed, "revival", step), device="cpu")[:count]
    return distinct_rows(ranks.take(vectors, order.to(vectors.device), counts))
