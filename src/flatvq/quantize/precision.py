"""Modules whose state stays float32 when a model is converted; computations without autocast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flatvq.deprecation import HideRenamed

__all__ = ["Float32Linear", "Float32Module", "without_autocast"]


class Float32Module(HideRenamed, nn.Module):
    """A module that follows `.to(device)`, but keeps its floating-point state in float32.

    `.half()`, `.bfloat16()`, `.double()` and `.to(dtype)` do not change its parameters and buffers, or those
    of its submodules. State dicts of another dtype are converted to float32 when they are loaded.

    Example:
        >>> class Scale(Float32Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("scale", torch.tensor(0.1))
        >>> Scale().bfloat16().scale
        tensor(0.1000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_restore_float32)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Apply a conversion to all state, but not its change of dtype."""

        def convert(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            if converted.dtype in (tensor.dtype, torch.float32):
                return converted
            return tensor.to(converted.device)

        return super()._apply(convert, recurse)  # type: ignore[no-untyped-call]


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, even if FSDP2 provides weights of another dtype.

    Example:
        >>> Float32Linear(2, 3).bfloat16()(torch.zeros(1, 2)).dtype
        torch.float32
    """

    def forward(self, input: Tensor) -> Tensor:
        """Project float32 [N, C] to float32 [N, D]."""
        return F.linear(input, self.weight.float(), self.bias.float())


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context without autocast. If autocast is on, entering it takes as long as ten operations.

    Args:
        device: the type of a device, such as `cpu`.

    Example:
        >>> with torch.autocast("cpu"), without_autocast("cpu"):
        ...     torch.is_autocast_enabled("cpu")
        False
    """
    # The meta device has no autocast.
    is_off = device == "meta" or not torch.is_autocast_enabled(device)
    return nullcontext() if is_off else torch.autocast(device, enabled=False)


def _restore_float32(module: nn.Module, incompatible: object) -> None:
    """Convert tensors that `load_state_dict(assign=True)` assigned in another dtype."""
    state = [*module.parameters(), *module.buffers()]
    if any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in state):
        module.float()
