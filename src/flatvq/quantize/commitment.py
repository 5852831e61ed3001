"""The commitment loss, and its gradient.

Axes: N vectors, D code dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from flatvq.quantize.native import instructions, squared_error

__all__ = ["commitment_loss"]

# PyTorch's number for a loss that is a mean over all elements.
_MEAN = 1


def commitment_loss(vectors: Float[Tensor, "n d"], codes: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """How far vectors are from their codes: mean (z - e)^2 (van den Oord et al. 2017, eq. 3, third term).

    Args:
        vectors: encoder outputs z [N, D].
        codes: the code e chosen for each [N, D], without gradients.

    Returns:
        Scalar, without the weight beta; its gradient is that of `torch.nn.functional.mse_loss`, to the bit.

    Example:
        >>> z = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss = commitment_loss(z, torch.tensor([[1.0, 4.0]]))
        >>> loss.backward()
        >>> loss.item(), z.grad.tolist()
        (2.0, [[0.0, -2.0]])
    """
    on_cpu = vectors.device.type == "cpu" and vectors.dtype == torch.float32
    if torch.compiler.is_compiling() or not on_cpu or not instructions():
        return F.mse_loss(vectors, codes)
    result: Tensor = _SinglePass.apply(vectors, codes)  # type: ignore[no-untyped-call]
    return result


class _SinglePass(torch.autograd.Function):
    """The mean without an array of all squares on the way."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, codes)
        return squared_error(vectors, codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.ops.aten.mse_loss_backward(gradient, *ctx.saved_tensors, _MEAN), None
