"""Communication between the processes that train one codebook.

Processes may hold different numbers of vectors. Global rows number the vectors of all processes: first the
vectors of rank 0, then of rank 1, and so on.

Axes: N flattened vectors of this process, D code dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["Ranks"]


class Ranks:
    """The processes of a group. Every method is a collective call; with one process it does not communicate.

    Args:
        group: a process group of `torch.distributed`; None for all processes.

    Example:
        >>> ranks = Ranks()
        >>> ranks.world_size, ranks.counts_of(torch.zeros(5, 2))
        (1, [5])
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __deepcopy__(self, memo: object) -> Ranks:
        """Return this object, because a copied module trains with the same processes."""
        return self

    @property
    def world_size(self) -> int:
        """Number of processes in the group."""
        if not (dist.is_available() and dist.is_initialized()):
            return 1
        size = dist.get_world_size(self.group)
        if size < 1:
            raise FlatvqError(
                f"process {dist.get_rank()} is not in the codebook's process group",
                "pass a group that every process which trains the codebook belongs to",
            )
        return size

    def sum(self, *tensors: Tensor) -> None:
        """Replace tensors by their sums over all processes, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor, group=self.group)

    def from_first(self, tensor: Tensor) -> Tensor:
        """Overwrite a tensor with the tensor of the first process, and return it."""
        if self.world_size > 1:
            dist.broadcast(tensor, group_src=0, group=self.group)
        return tensor

    def counts_of(self, vectors: Tensor) -> list[int]:
        """Return the number of vectors [N, D] of each process."""
        if self.world_size == 1:
            return [len(vectors)]
        own = torch.tensor([len(vectors)], device=vectors.device)
        counts = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(counts, own, group=self.group)
        return [int(count) for count in counts]

    def take(self, vectors: Tensor, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Take rows of the vectors of all processes.

        Args:
            vectors: float32 [N, D], the vectors of this process.
            rows: int64 [R], global rows in [0, sum(counts)); the same on every process.
            counts: the number of vectors of each process, from `counts_of`.

        Returns:
            float32 [R, D], bitwise the same on every process.

        Example:
            >>> vectors = torch.tensor([[1.0], [2.0]])
            >>> Ranks().take(vectors, torch.tensor([1, 1, 0]), [2]).tolist()
            [[2.0], [2.0], [1.0]]
        """
        if self.world_size == 1:
            return vectors[rows]
        local = rows - sum(counts[: dist.get_rank(self.group)])
        is_local = (local >= 0) & (local < len(vectors))
        taken = torch.zeros(len(rows), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        taken[is_local] = vectors[local[is_local]]
        # Each row is zero on all processes but one, so the sum is exact.
        dist.all_reduce(taken, group=self.group)
        return taken
