"""The commitment loss, and its gradient.

Axes: N vectors, D code dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

__all__ = ["commitment_loss"]

# PyTorch's number for a loss that is a mean over all elements.
_MEAN = 1


def commitment_loss(
    vectors: Float[Tensor, "n d"], codes: Float[Tensor, "n d"], error: Float[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """How far vectors are from their codes: mean (z - e)^2 (van den Oord et al. 2017, eq. 3, third term).

    Args:
        vectors: encoder outputs z [N, D].
        codes: the code e chosen for each [N, D], without gradients.
        error: the loss itself, if it is known already; without gradients.

    Returns:
        Scalar, without the weight beta; its gradient is that of `torch.nn.functional.mse_loss`, to the bit.

    Example:
        >>> z = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss = commitment_loss(z, torch.tensor([[1.0, 4.0]]), error=torch.tensor(2.0))
        >>> loss.backward()
        >>> loss.item(), z.grad.tolist()
        (2.0, [[0.0, -2.0]])
    """
    if error is None:
        return F.mse_loss(vectors, codes)
    if not vectors.requires_grad:
        return error
    result: Tensor = _Known.apply(vectors, codes, error)  # type: ignore[no-untyped-call]
    return result


class _Known(torch.autograd.Function):
    """A mean that the search has added up on its way; an array of all squares would take its time."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codes: Tensor, error: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, codes)
        return error.view_as(error)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.aten.mse_loss_backward(gradient, *ctx.saved_tensors, _MEAN), None, None
