"""Counts and sums of each code's vectors, without a one-hot matrix: `code_sums` and its backends.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.nearest import availability, compiled

__all__ = ["SUM_BACKENDS", "SumBackend", "code_sums", "sum_backend_for"]


@dataclass(frozen=True)
class SumBackend:
    """One implementation of the sums."""

    sums: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    """Called with the arguments of `code_sums`; returns counts and sums."""
    missing: Callable[[torch.device, torch.dtype], str]
    """Why the backend cannot add on a device in a number format, or an empty string if it can."""


def code_sums(
    vectors: Tensor, indices: Tensor, codebook_size: int, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Count and sum the vectors of each code.

    The result is the same at every run on a CPU, and on a GPU with Triton.

    Args:
        vectors: float32 [N, D].
        indices: int64 [N], the code of each vector.
        codebook_size: K.
        backend: one of `SUM_BACKENDS`; the one that `sum_backend_for` chooses by default.

    Returns:
        Counts float32 [K] and sums float32 [K, D].

    Raises:
        FlatvqError: if the backend cannot run, or, with any backend but Triton, if an index is K or more.

    Example:
        >>> counts, sums = code_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 2]), 3)
        >>> counts.tolist(), sums.tolist()
        ([1.0, 0.0, 2.0], [[1.0], [0.0], [6.0]])
    """
    name = backend or sum_backend_for(vectors.device, vectors.dtype)
    if backend and (reason := SUM_BACKENDS[backend].missing(vectors.device, vectors.dtype)):
        raise FlatvqError(f"sum backend {backend!r} cannot run here: {reason}", "use 'torch'")
    return SUM_BACKENDS[name].sums(vectors, indices, codebook_size)


def sum_backend_for(device: torch.device, dtype: torch.dtype) -> str:
    """Choose the fastest backend for a device and a number format.

    Example:
        >>> sum_backend_for(torch.device("meta"), torch.float32)
        'torch'
    """
    if availability.switched_off():
        return "torch"
    return next(name for name, backend in SUM_BACKENDS.items() if not backend.missing(device, dtype))


def _counts(vectors: Tensor, indices: Tensor, codebook_size: int) -> Tensor:
    counts = torch.bincount(indices, minlength=codebook_size).to(vectors.dtype)
    if len(counts) > codebook_size:
        largest = len(counts) - 1
        raise FlatvqError(
            f"index {largest} is beyond a codebook of {codebook_size}", "pass the codebook's size"
        )
    return counts


def _by_torch(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    counts = _counts(vectors, indices, codebook_size)
    return counts, vectors.new_zeros(codebook_size, vectors.shape[1]).index_add_(0, indices, vectors)


def _compiled(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    counts = _counts(vectors, indices, codebook_size)  # which refuses an index that is beyond the sums
    sums = vectors.new_zeros(codebook_size, vectors.shape[1])
    compiled.add_to_sums(vectors, indices, sums)
    return counts, sums


def _compiled_missing(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cpu" or dtype != torch.float32:
        return "it adds float32 on the CPU only"
    return availability.BUILD_ERROR


def _by_triton(vectors: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    from flatvq.nearest import triton_sums

    return triton_sums.code_sums(vectors, indices, codebook_size)


SUM_BACKENDS = {
    "compiled": SumBackend(_compiled, _compiled_missing),
    "triton": SumBackend(_by_triton, lambda device, dtype: availability.triton_missing(device)),
    "torch": SumBackend(_by_torch, lambda device, dtype: ""),
}
"""The backends by name, the fastest first."""
