"""Sums and rows over all processes; the identity where there is one process.

Axes: N flattened vectors of this process, W processes, D code dim. Global row r belongs to process r // N:
the order in which one process would see a batch W times as large.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["from_first_rank", "global_rows", "sum_over_ranks", "world_size"]


def world_size() -> int:
    """Return the number of processes that train together.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def from_first_rank(tensor: Tensor) -> Tensor:
    """Replace a tensor by the first process's, in place, and return it."""
    if world_size() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def global_rows(vectors: Tensor, rows: Tensor) -> Tensor:
    """Take rows of the vectors of all processes, in their global order.

    Every process must ask for the same rows and hold equally many vectors.

    Args:
        vectors: float32 [N, D], this process's.
        rows: int64 [R], positions in [0, W x N).

    Returns:
        float32 [R, D], bitwise the same on every process.

    Example:
        >>> global_rows(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1, 0])).tolist()
        [[2.0], [2.0], [1.0]]
    """
    if world_size() == 1:
        return vectors[rows]
    local = rows - dist.get_rank() * len(vectors)
    mine = (local >= 0) & (local < len(vectors))
    taken = torch.zeros(len(rows), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    taken[mine] = vectors[local[mine]]
    # Exactly one process contributes to each row, so the sum is exact.
    dist.all_reduce(taken)
    return taken
