"""Activation checkpointing: a forward pass that runs again in the backward pass has to see the same codes.

Activation checkpointing (`torch.utils.checkpoint`) drops activations and repeats the forward pass when the
backward pass needs them. A codebook that learns in its forward pass has moved by then. It must not learn a
second time, and the repeated search must use the codes of the first one.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["RecentCodeVectors", "in_backward_pass", "may_run_again"]

# Forward passes that may wait for their backward pass: gradient accumulation and pipeline stages.
_LIMIT = 16


def in_backward_pass() -> bool:
    """Whether this code runs inside a backward pass of autograd."""
    return bool(torch._C._current_graph_task_id() != -1)


def may_run_again() -> bool:
    """Whether a forward pass in training mode may be repeated by activation checkpointing.

    The non-reentrant variant sets hooks for saved tensors; the reentrant one turns gradients off, and so does
    whoever initializes a codebook without training.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None or not torch.is_grad_enabled()


@dataclass
class _Pass:
    checksum: int
    code_vectors: Tensor
    repeated: bool = False


class RecentCodeVectors:
    """The codes that the latest forward passes searched, for those that run again."""

    def __init__(self) -> None:
        self._passes: deque[_Pass] = deque(maxlen=_LIMIT)

    def keep(self, vectors: Tensor, code_vectors: Tensor) -> None:
        """Remember what a forward pass searched.

        Args:
            vectors: float32 [N, D].
            code_vectors: float32 [K, D]; copied.
        """
        waiting = [one for one in self._passes if not one.repeated]
        self._passes = deque([*waiting, _Pass(_checksum(vectors), code_vectors.clone())], maxlen=_LIMIT)

    def of(self, vectors: Tensor) -> Tensor:
        """Return the codes [K, D] that a forward pass over the same vectors searched.

        Where rounding differs the second time, as it may on a GPU, that is the latest pass not yet repeated.

        Args:
            vectors: float32 [N, D].

        Raises:
            FlatvqError: if no forward pass is remembered.
        """
        checksum = _checksum(vectors)
        latest_first = list(reversed(self._passes))
        same = [one for one in latest_first if one.checksum == checksum]
        waiting = [one for one in same or latest_first if not one.repeated]
        candidates = waiting or same
        if not candidates:
            raise FlatvqError(
                f"a backward pass repeats a forward pass that is not among the last {_LIMIT}",
                "run the backward passes earlier, or keep the quantizer outside activation checkpointing",
            )
        candidates[0].repeated = True
        return candidates[0].code_vectors


def _checksum(vectors: Tensor) -> int:
    """Add up the bits of float32 [N, D], modulo 2^64."""
    return int(vectors.contiguous().view(torch.int32).sum())
