"""Writes into a codebook whose parameter FSDP2 has sharded.

During a forward pass, `fully_shard` replaces the parameter by a gathered copy, and drops the copy afterwards.
New codes must be written into the sharded parameter as well.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["full", "is_fsdp1", "is_sharded", "require_gathered", "write_rows"]


def is_sharded(parameter: object) -> bool:
    """Return whether a parameter is distributed over processes (`torch.distributed.tensor.DTensor`).

    Example:
        >>> import torch
        >>> is_sharded(torch.zeros(1))
        False
    """
    # A DTensor exists only if its module has been imported. Importing it takes a second.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(parameter, module.DTensor)


def is_fsdp1(weight: Tensor) -> bool:
    """Return whether a weight is a view of the flattened parameters of `FullyShardedDataParallel`.

    Example:
        >>> import torch
        >>> is_fsdp1(torch.zeros(1))
        False
    """
    return bool(getattr(weight, "_fsdp_flattened", False))


def require_gathered(weight: Tensor) -> None:
    """Check that the whole codebook is there.

    Raises:
        FlatvqError: if the weight is sharded.

    Example:
        >>> import torch
        >>> require_gathered(torch.zeros(1))
    """
    if is_sharded(weight):
        raise FlatvqError(
            "the codebook is sharded and was not gathered for this forward pass",
            "apply fully_shard to the whole quantizer or to a model around it, not to its parts",
        )


def full(parameter: Tensor) -> Tensor:
    """Return a whole parameter. For a sharded one this is a collective call.

    Example:
        >>> import torch
        >>> full(torch.zeros(1))
        tensor([0.])
    """
    gathered: Tensor = cast("Any", parameter).full_tensor() if is_sharded(parameter) else parameter
    return gathered


def write_rows(weight: Tensor, sharded: Tensor | None, rows: Tensor, values: Tensor) -> None:
    """Write new codes into rows of a codebook, in place.

    With a sharded parameter this is a collective call: every process must write the same values.

    Args:
        weight: [K, D], the parameter or buffer of the module.
        sharded: the sharded parameter that `weight` was gathered from; None if there is none.
        rows: int64 [R].
        values: float32 [R, D].

    Raises:
        FlatvqError: if the parameter belongs to FSDP1, which does not support writes.

    Example:
        >>> import torch
        >>> weight = torch.zeros(3, 1)
        >>> write_rows(weight, None, torch.tensor([2]), torch.tensor([[5.0]]))
        >>> weight.tolist()
        [[0.0], [0.0], [5.0]]
    """
    if is_fsdp1(weight):
        raise FlatvqError(
            "FullyShardedDataParallel (FSDP1) cannot initialize or replace codes that learn by gradients",
            "use fully_shard (FSDP2), or update=Ema()",
        )
    if not is_sharded(weight):
        weight[rows] = values.to(weight.dtype)
    target = weight if is_sharded(weight) else sharded
    if target is not None:
        _write_sharded(target, rows, values)


def _write_sharded(target: Tensor, rows: Tensor, values: Tensor) -> None:
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(target, DTensor)
    gathered = full(target)
    gathered[rows] = values.to(gathered.dtype)
    mesh = target.device_mesh
    target.copy_(DTensor.from_local(gathered, mesh, [Replicate()] * mesh.ndim, run_check=False))
