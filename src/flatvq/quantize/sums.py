"""Counts and sums of each code's vectors, without a one-hot matrix.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flatvq import kernels
from flatvq.errors import FlatvqError
from flatvq.quantize.native import add_native, instructions

__all__ = ["code_sums"]


def code_sums(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Count and sum the vectors of each code; the same bits at every run on a CPU, and on a GPU with Triton.

    Args:
        vectors: float32 [N, D].
        indices: int64 [N], the code of each.
        codebook_size: K.

    Returns:
        Counts float32 [K] and sums float32 [K, D].

    Raises:
        FlatvqError: on a CPU, if an index is K or more.

    Example:
        >>> counts, sums = code_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 2]), 3)
        >>> counts.tolist(), sums.tolist()
        ([1.0, 0.0, 2.0], [[1.0], [0.0], [6.0]])
    """
    if kernels.available(vectors.device):
        from flatvq.kernels import sums as fused

        return fused.code_sums(vectors, indices, codebook_size)
    counts = torch.bincount(indices, minlength=codebook_size).to(vectors.dtype)
    if len(counts) > codebook_size:
        largest = len(counts) - 1
        raise FlatvqError(f"index {largest} is beyond a codebook of {codebook_size}", "give it all its codes")
    sums = vectors.new_zeros(codebook_size, vectors.shape[1])
    if vectors.device.type == "cpu" and vectors.dtype == torch.float32 and instructions():
        add_native(vectors, indices, sums)  # the same bits in a third of the time
        return counts, sums
    return counts, sums.index_add_(0, indices, vectors)
