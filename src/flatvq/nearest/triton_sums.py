"""Counts and sums of each code's vectors on a GPU, the same bits at every run.

PyTorch adds such sums atomically, in an order that changes from run to run. With deterministic algorithms it
adds one vector after the other, which is slow if many vectors share a code. Here vectors are sorted by their
code, and the vectors of each code are added in a fixed order. Axes: N vectors, K codes, D code dim. Import
this module only where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["code_sums"]

_ROWS, _COLUMNS, _WARPS = 64, 64, 4


def code_sums(vectors: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Count and sum the vectors of each code.

    Args:
        vectors: float32 [N, D] on a GPU.
        indices: int64 [N], the code of each.
        size: K.

    Returns:
        Counts float32 [K] and sums float32 [K, D].
    """
    vectors, dim = vectors.contiguous(), vectors.shape[1]
    ordered, order = indices.sort(stable=True)
    bounds = torch.searchsorted(ordered, torch.arange(size + 1, device=indices.device))
    counts, sums = vectors.new_empty(size), vectors.new_empty(size, dim)
    columns = min(_COLUMNS, triton.next_power_of_2(dim))
    with torch.cuda.device(vectors.device if vectors.is_cuda else -1):
        _sums[(size, triton.cdiv(dim, columns))](
            vectors, order, bounds, counts, sums, dim, _ROWS, columns, num_warps=_WARPS
        )
    return counts, sums


@triton.jit
def _sums(
    vectors,
    order,
    bounds,
    counts,
    sums,
    dim,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up the vectors of one code in COLUMNS dimensions, ROWS of them at a time."""
    code = tl.program_id(0)
    begin, end = tl.load(bounds + code), tl.load(bounds + code + 1)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(begin, end, ROWS):
        places = start + tl.arange(0, ROWS)
        rows = tl.load(order + places, mask=places < end, other=0)
        total += tl.load(
            vectors + rows[:, None] * dim + columns[None, :],
            mask=(places < end)[:, None] & (columns < dim)[None, :],
            other=0.0,
        )
    tl.store(sums + code.to(tl.int64) * dim + columns, tl.sum(total, 0), mask=columns < dim)
    if tl.program_id(1) == 0:
        tl.store(counts + code, (end - begin).to(tl.float32))
