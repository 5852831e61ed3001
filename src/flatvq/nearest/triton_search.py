"""Nearest codes on a GPU by a Triton kernel that keeps only each vector's largest score.

The nearest code of z is the one with the largest score z e - |e|^2 / 2. Axes: N vectors, K codes, D code dim.
Nothing of size N x K is written to memory, and scores are full float32, without TF32. Import this module only
where Triton is installed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flatvq.nearest.conditioning import OFFSET

__all__ = ["search", "value_range"]

# Scores that a program holds at once, and its warps: the fastest of several on an H100, or close to it.
_ROWS, _COLUMNS, _WARPS = 64, 128, 4
# Dimensions multiplied at once. Triton's product takes at least 16. Up to half of that, multiplying one
# dimension after the other is faster.
_CHUNK, _FEW = 16, 8
# Programs for each multiprocessor. If there are fewer blocks of vectors, programs divide the codes, too.
_PROGRAMS = 2


def search(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest code of each vector; of equally near ones, the first.

    Args:
        vectors: float32 [N, D] on a GPU, N >= 1.
        codebook: float32 [K, D] on the same GPU.

    Returns:
        int64 [N].
    """
    (count, dim), size = vectors.shape, len(codebook)
    vectors, codebook, chunk = vectors.contiguous(), codebook.contiguous(), _CHUNK
    if dim <= _FEW:
        # With one dimension at a time, reads are fastest if the values of a dimension are contiguous.
        vectors, codebook, chunk = vectors.T.contiguous().T, codebook.T.contiguous().T, 1
    blocks = triton.cdiv(count, _ROWS)
    shares = max(
        1, min(triton.cdiv(size, 4 * _COLUMNS), _PROGRAMS * _multiprocessors(vectors.device) // blocks)
    )
    share = triton.cdiv(triton.cdiv(size, _COLUMNS), shares) * _COLUMNS
    shares = triton.cdiv(size, share)
    scores = vectors.new_empty(shares, count)
    nearest = torch.empty(shares, count, dtype=torch.int64, device=vectors.device)
    strides = *vectors.stride(), *codebook.stride()
    with torch.cuda.device(vectors.device if vectors.is_cuda else -1):
        _search[(blocks, shares)](
            *(vectors, codebook, scores, nearest, count, size, dim, share, *strides),
            *(chunk, _ROWS, _COLUMNS),
            num_warps=_WARPS,
        )
    # If shares have equal scores, the first share has the lowest code.
    return nearest[0] if shares == 1 else nearest.gather(0, scores.max(dim=0).indices[None])[0]


def value_range(vectors: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the largest values, and find the coordinates of the codes that are far from zero.

    Args:
        vectors: float32 [N, D] on a GPU.
        codebook: float32 [K, D] on the same GPU.

    Returns:
        float32 [3]: the largest absolute values of vectors and codes, NaN if a value is NaN, and a number
        other than 0 if any coordinate is far from zero. And bool [D]: which coordinates are.
    """
    vectors, codebook = vectors.contiguous(), codebook.contiguous()
    size, dim = codebook.shape
    # Compared as bits: positive floats have the order of their bits, and NaN is above infinity.
    values = torch.zeros(3, dtype=torch.int32, device=vectors.device)
    far = torch.empty(dim, dtype=torch.bool, device=vectors.device)
    programs = min(_multiprocessors(vectors.device), triton.cdiv(vectors.numel(), 4096))
    with torch.cuda.device(vectors.device if vectors.is_cuda else -1):
        _value_range[(triton.cdiv(dim, 4) + programs,)](
            *(vectors, codebook, values, far, vectors.numel(), size, dim, OFFSET**2, 1024, 256, 4)
        )
    return values.view(torch.float32), far


def _multiprocessors(device: torch.device) -> int:
    # The interpreter, which tests use, works on the CPU.
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _search(
    vectors,
    codes,
    scores,
    nearest,
    count,
    size,
    dim,
    share,
    vector_stride,
    vector_step,
    code_stride,
    code_step,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Search a share of the codes for ROWS vectors."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lanes = tl.arange(0, COLUMNS)
    first = tl.program_id(1) * share
    last = tl.minimum(first + share, size)
    # Column by column, the largest score so far and its position.
    best = tl.full([ROWS, COLUMNS], -float("inf"), tl.float32)
    where = tl.zeros([ROWS, COLUMNS], tl.int32)
    vector = vectors + rows.to(tl.int64) * vector_stride
    for start in range(first, last, COLUMNS):
        columns = start + lanes
        code = codes + columns.to(tl.int64) * code_stride
        sums = tl.zeros([ROWS, COLUMNS], tl.float32)
        squares = tl.zeros([COLUMNS], tl.float32)
        for d in range(0, dim, CHUNK):
            if CHUNK == 1:
                z = tl.load(vector + d * vector_step, mask=rows < count, other=0.0)
                e = tl.load(code + d * code_step, mask=columns < last, other=0.0)
                sums += z[:, None] * e[None, :]
                squares += e * e
            else:
                depth = d + tl.arange(0, CHUNK)
                inside = depth < dim
                z = tl.load(
                    vector[:, None] + (depth * vector_step)[None, :],
                    mask=(rows < count)[:, None] & inside[None, :],
                    other=0.0,
                )
                e = tl.load(
                    code[None, :] + (depth * code_step)[:, None],
                    mask=inside[:, None] & (columns < last)[None, :],
                    other=0.0,
                )
                sums = tl.dot(z, e, sums, input_precision="ieee")
                squares += tl.sum(e * e, 0)
        score = tl.where((columns < last)[None, :], sums - squares[None, :] / 2, -float("inf"))
        better = score > best
        best = tl.where(better, score, best)
        where = tl.where(better, start, where)
    largest = tl.max(best, 1)
    lowest = tl.where(best == largest[:, None], where + lanes[None, :], 0x7FFFFFFF)
    place = tl.program_id(1).to(tl.int64) * count + rows
    tl.store(scores + place, largest, mask=rows < count)
    tl.store(nearest + place, tl.min(lowest, 1), mask=rows < count)


@triton.jit
def _value_range(
    vectors,
    codes,
    largest_values,
    far,
    count,
    size,
    dim,
    limit,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Measure COLUMNS coordinates of all codes in the first programs, and the vectors in the others.

    Programs only combine integers, so that the result is the same at every run.
    """
    groups = tl.cdiv(dim, COLUMNS)
    program = tl.program_id(0)
    if program < groups:
        columns, lanes = program * COLUMNS + tl.arange(0, COLUMNS), tl.arange(0, ROWS)
        sums = tl.zeros([ROWS, COLUMNS], tl.float32)
        squares = tl.zeros([ROWS, COLUMNS], tl.float32)
        largest = tl.zeros([ROWS, COLUMNS], tl.int32)
        for start in range(0, size, ROWS):
            rows = start + lanes
            place = rows[:, None].to(tl.int64) * dim + columns[None, :]
            code = tl.load(codes + place, mask=(rows < size)[:, None] & (columns < dim)[None, :], other=0.0)
            sums += code
            squares += code * code
            largest = tl.maximum(largest, code.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
        mean = tl.sum(sums, 0) / size
        # Rounding can lose this difference only if the mean is far larger than the deviation.
        variance = tl.sum(squares, 0) / size - mean * mean
        away = (mean * mean > limit * variance) & (columns < dim)
        tl.store(far + columns, away, mask=columns < dim)
        tl.atomic_max(largest_values + 1, tl.max(tl.max(largest, 1), 0))
        tl.atomic_max(largest_values + 2, tl.max(away.to(tl.int32), 0))
    else:
        inner = tl.arange(0, BLOCK)
        most = tl.zeros([BLOCK], tl.int32)
        for begin in range((program - groups) * BLOCK, count, (tl.num_programs(0) - groups) * BLOCK):
            spot = begin + inner
            value = tl.load(vectors + spot, mask=spot < count, other=0.0)
            most = tl.maximum(most, value.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
        tl.atomic_max(largest_values, tl.max(most, 0))
