"""Usage of a codebook: statistics of one histogram that is pooled over a whole split.

Perplexity is computed from the pooled histogram. It is not a mean over batches. Measure it in eval mode: in
training mode, codes change between batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.quantize.checks import has_values, plain, require_indices, require_mask, whole_number
from flatvq.quantize.distributed import Ranks
from flatvq.shapes import require_axes, require_integers
from flatvq.translation import in_bytes

__all__ = ["CodeUsage", "UsageCounter", "code_usage"]


@dataclass(frozen=True)
class CodeUsage:
    """Usage of one codebook over a split."""

    codebook_size: int
    """K."""
    used_codes: int
    """Number of codes that occur at least once, summed over Q codebooks."""
    usage: float
    """`used_codes` as a share of all codes, in [0, 1]."""
    perplexity: float
    """Exponential of the entropy of the histogram, from 1 to K; the geometric mean over Q codebooks."""
    codes_for_99: int
    """Smallest number of codes that carry 99 % of all occurrences, summed over Q codebooks."""

    @property
    def effective_bits(self) -> float:
        """log2 of the perplexity: the entropy of an index without context, in bits."""
        return math.log2(self.perplexity)


def code_usage(counts: Tensor) -> CodeUsage:
    """Compute the usage statistics of a histogram of indices.

    Args:
        counts: integers [K], or [Q, K] for Q codebooks: the number of occurrences of each code. At least one
            code of every codebook occurs.

    Returns:
        The usage statistics.

    Raises:
        FlatvqError: if no code occurs, a count is negative, or the shape or dtype does not match.

    Example:
        >>> code_usage(torch.tensor([2, 2, 0, 0]))
        CodeUsage(codebook_size=4, used_codes=2, usage=0.5, perplexity=2.0, codes_for_99=2)
    """
    require_axes(counts, "counts", *(["Q", "K"] if counts.ndim == 2 else ["K"]))
    require_integers(counts, "counts")
    counts = counts.long()
    if counts.numel() and int(counts.min()) < 0:
        raise FlatvqError(f"a count is {int(counts.min())}", "pass how often each code occurred, 0 or more")
    codebooks = [_Histogram(row) for row in (counts if counts.ndim == 2 else counts[None])]
    used = sum(codebook.used for codebook in codebooks)
    return CodeUsage(
        codebook_size=counts.shape[-1],
        used_codes=used,
        usage=used / counts.numel(),
        perplexity=2.0 ** (sum(codebook.entropy for codebook in codebooks) / len(codebooks)),
        codes_for_99=sum(codebook.codes_for_99 for codebook in codebooks),
    )


class _Histogram:
    """Statistics of the counts of one codebook, integers [K]."""

    def __init__(self, counts: Tensor) -> None:
        total = float(counts.double().sum())  # the sum may exceed 64 bits
        if total == 0:
            raise FlatvqError("no index was counted", "add the indices of at least one image")
        shares = counts[counts > 0].double() / total
        mass = shares.sort(descending=True).values.cumsum(0)
        self.used = len(shares)
        self.entropy = float(-(shares * shares.log2()).sum())
        # With the tolerance, rounding of the running sum does not add one more code.
        self.codes_for_99 = int((mass < 0.99 - 1e-12).sum()) + 1


class UsageCounter:
    """A histogram of the indices of a split.

    Args:
        codebook_size: K.
        index_shape: `Quantizer.index_shape`: () for one index per position, (Q,) for Q indices.

    Raises:
        FlatvqError: if K is not a whole number of 1 or more, `index_shape` is not a tuple of such numbers, or
            there is not enough memory for the counts.

    Example:
        >>> counter = UsageCounter(4)
        >>> counter.add(torch.tensor([[0, 1], [1, 1]]))
        >>> counter.add(torch.tensor([3]))
        >>> counter.counts.tolist(), counter.summary().usage
        ([1, 3, 0, 1], 0.75)
    """

    def __init__(self, codebook_size: int, index_shape: tuple[int, ...] = ()) -> None:
        self.codebook_size = whole_number("codebook_size", codebook_size, 1)
        if not isinstance(index_shape, Sequence):
            raise FlatvqError(f"index_shape is {index_shape!r}", "pass quantizer.index_shape, such as (4,)")
        self.index_shape = tuple(whole_number("index_shape", size, 1) for size in index_shape)
        shape = (*self.index_shape, self.codebook_size)
        try:
            self.counts = torch.zeros(shape, dtype=torch.int64, device="cpu")
        except RuntimeError:  # too large for the memory, or for a tensor
            what = f"the counts of {prod(shape)} codes take {in_bytes(8 * prod(shape))}"
            raise FlatvqError(
                f"{what}, which cannot be allocated", "use a quantizer with fewer codes"
            ) from None
        """int64 [*index_shape, K], on the CPU."""

    def add(self, indices: Tensor, mask: Tensor | None = None) -> None:
        """Count indices.

        Args:
            indices: integers in [0, K) of any shape, on any device; [B, Q, *grid] for Q indices per position.
            mask: bool of this shape without the axis Q, True for the positions to count; all if None.

        Raises:
            FlatvqError: if an index is outside [0, K), or a shape, dtype or device does not match. The counts
                do not change then.
        """
        if self.index_shape:
            require_axes(indices, "indices", "B", *self.index_shape, "*grid")
            indices = indices.movedim(1, -1)
        else:
            require_axes(indices, "indices", "*grid")
        require_integers(indices, "indices")
        indices = plain(indices).long()
        if mask is not None:
            require_mask(mask, indices.shape[: indices.ndim - len(self.index_shape)], indices.device)
        require_indices(indices, self.codebook_size, mask)
        if not has_values(indices):
            raise FlatvqError(
                "indices without values (on the meta device, or inside a graph) cannot be counted",
                "count the indices of a real device, outside of the graph",
            )
        counted = indices if mask is None else indices[mask]
        # Number the codes of all codebooks consecutively.
        offsets = torch.arange(prod(self.index_shape), device=indices.device) * self.codebook_size
        numbers = (counted + offsets.view(self.index_shape)).flatten()
        self.counts += torch.bincount(numbers, minlength=self.counts.numel()).cpu().view_as(self.counts)

    def all_reduce(self, process_group: dist.ProcessGroup | None = None) -> UsageCounter:
        """Return a new counter with the sum of the counts of all processes.

        This is a collective call: every process of the group must make it.

        Args:
            process_group: the processes; None for all.

        Example:
            >>> counter = UsageCounter(2)
            >>> counter.add(torch.tensor([0, 0, 1]))
            >>> counter.all_reduce().counts.tolist()
            [2, 1]
        """
        total = UsageCounter(self.codebook_size, self.index_shape)
        if not (dist.is_available() and dist.is_initialized()):
            total.counts += self.counts
            return total
        # NCCL sums tensors on GPUs only.
        nccl = dist.get_backend(process_group) == "nccl"
        counts = self.counts.to("cuda" if nccl else "cpu", copy=True)
        Ranks(process_group).sum(counts)
        total.counts += counts.cpu()
        return total

    def summary(self) -> CodeUsage:
        """Return the usage statistics of the indices counted so far."""
        return code_usage(self.counts)
