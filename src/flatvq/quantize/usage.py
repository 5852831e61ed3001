"""How much of a codebook is used: dataset-wide statistics from one pooled histogram.

Perplexity is that of the histogram pooled over the whole split, never a mean over batches; measure it in eval
mode with the codebook frozen, since training batches count codes that were revived a moment ago.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["CodeUsage", "UsageCounter", "code_usage"]


@dataclass(frozen=True)
class CodeUsage:
    """Usage of one codebook over a split."""

    codebook_size: int
    """K."""
    used_codes: int
    """Codes that occur at least once."""
    usage: float
    """The same as a share of K, in [0, 1]."""
    perplexity: float
    """exp of the entropy of the pooled histogram: between 1 and K."""
    codes_for_99: int
    """The fewest codes that carry 99 % of all occurrences."""

    @property
    def effective_bits(self) -> float:
        """log2 of the perplexity: the bits that an index really carries, without context."""
        return math.log2(self.perplexity)


def code_usage(counts: Tensor) -> CodeUsage:
    """Summarise a histogram of indices.

    Args:
        counts: [K], how often each code occurred; at least one occurrence.

    Returns:
        The usage statistics.

    Raises:
        FlatvqError: if nothing occurred.

    Example:
        >>> code_usage(torch.tensor([2, 2, 0, 0]))
        CodeUsage(codebook_size=4, used_codes=2, usage=0.5, perplexity=2.0, codes_for_99=2)
    """
    total = int(counts.sum())
    if total == 0:
        raise FlatvqError("no index was counted", "add those of at least one image")
    shares = counts.double() / total
    present = shares[shares > 0]
    entropy = float(-(present * present.log2()).sum())
    mass = present.sort(descending=True).values.cumsum(0)
    # The tolerance keeps rounding of the running sum from asking for one code more.
    carrying = int((mass < 0.99 - 1e-12).sum()) + 1
    return CodeUsage(len(counts), len(present), len(present) / len(counts), 2.0**entropy, carrying)


class UsageCounter:
    """Pools the indices of a split into one histogram.

    Args:
        codebook_size: K.

    Example:
        >>> counter = UsageCounter(4)
        >>> counter.add(torch.tensor([[0, 1], [1, 1]]))
        >>> counter.add(torch.tensor([3]))
        >>> counter.counts.tolist(), counter.summary().usage
        ([1, 3, 0, 1], 0.75)
    """

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)

    def add(self, indices: Tensor) -> None:
        """Count indices of any shape, int64 in [0, K)."""
        self.counts += torch.bincount(indices.flatten(), minlength=len(self.counts)).cpu()

    def summary(self) -> CodeUsage:
        """Summarise what was counted so far."""
        return code_usage(self.counts)
