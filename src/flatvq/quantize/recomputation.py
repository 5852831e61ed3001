"""Support for activation checkpointing, which repeats a forward pass inside the backward pass.

Activation checkpointing (`torch.utils.checkpoint`) drops activations and repeats the forward pass when the
backward pass needs them. By then, a codebook that learns in its forward pass has changed. It must not learn a
second time, and the repeated search must use the code vectors of the first one.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["RecentCodeVectors", "in_backward_pass", "may_run_again"]

# Largest number of forward passes before their backward passes, as with gradient accumulation.
_LIMIT = 16


def in_backward_pass() -> bool:
    """Return whether this code runs inside a backward pass of autograd."""
    return bool(torch._C._current_graph_task_id() != -1)


def may_run_again() -> bool:
    """Return whether activation checkpointing may repeat a forward pass in training mode.

    The non-reentrant variant sets hooks for saved tensors. The reentrant variant disables gradients. So does
    a caller that initializes a codebook without training.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None or not torch.is_grad_enabled()


@dataclass
class _Pass:
    """A forward pass."""

    checksum: int
    code_vectors: Tensor
    is_repeated: bool = False


class RecentCodeVectors:
    """The code vectors that the latest forward passes searched, for passes that run again."""

    def __init__(self) -> None:
        self._passes: deque[_Pass] = deque(maxlen=_LIMIT)

    def keep(self, vectors: Tensor, code_vectors: Tensor) -> None:
        """Keep the vectors' checksum and a copy of the code vectors of a forward pass.

        Args:
            vectors: float32 [N, D].
            code_vectors: float32 [K, D].
        """
        waiting = [forward for forward in self._passes if not forward.is_repeated]
        self._passes = deque([*waiting, _Pass(_checksum(vectors), code_vectors.clone())], maxlen=_LIMIT)

    def of(self, vectors: Tensor) -> Tensor:
        """Return the code vectors [K, D] that a forward pass over the same vectors searched.

        On a GPU, rounding may differ when a pass is repeated. Then these are the code vectors of the latest
        pass that has not been repeated.

        Args:
            vectors: float32 [N, D].

        Raises:
            FlatvqError: if the forward pass has been dropped.
        """
        checksum = _checksum(vectors)
        latest_first = list(reversed(self._passes))
        same = [forward for forward in latest_first if forward.checksum == checksum]
        waiting = [forward for forward in same or latest_first if not forward.is_repeated]
        candidates = waiting or same
        if not candidates:
            raise FlatvqError(
                f"a backward pass repeats a forward pass that is not among the last {_LIMIT}",
                "run the backward passes earlier, or keep the quantizer outside activation checkpointing",
            )
        candidates[0].is_repeated = True
        return candidates[0].code_vectors


def _checksum(vectors: Tensor) -> int:
    """Add up the bits of float32 [N, D], modulo 2^64."""
    return int(vectors.contiguous().view(torch.int32).sum())
