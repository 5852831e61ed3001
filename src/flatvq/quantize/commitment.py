"""The commitment loss and its gradient.

Axes: N vectors, D code dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from flatvq.quantize.autograd import Function
from flatvq.quantize.estimators import in_forward_mode, is_tracing, needs_gradient

__all__ = ["commitment_loss"]

# The number of the reduction "mean" in ATen.
_MEAN = 1


def commitment_loss(
    vectors: Float[Tensor, "n d"],
    code_vectors: Float[Tensor, "n d"],
    error: Float[Tensor, ""] | None = None,
    mask: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the commitment loss (van den Oord et al. 2017, eq. 3, third term, without beta).

    This is the mean squared distance between vectors and their code vectors. Its gradient is bitwise equal to
    the gradient of `torch.nn.functional.mse_loss`.

    Args:
        vectors: encoder outputs z [N, D].
        code_vectors: the code vector e of each vector [N, D]. It is detached here.
        error: the value of the loss, if it has been computed already. Not used with a mask.
        mask: bool [N], True for the vectors to average over; all if None.

    Returns:
        Scalar; zero, with a graph, if there are no vectors to average over.

    Example:
        >>> z = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss = commitment_loss(z, torch.tensor([[1.0, 4.0]]), error=torch.tensor(2.0))
        >>> loss.backward()
        >>> loss.item(), z.grad.tolist()
        (2.0, [[0.0, -2.0]])
        >>> commitment_loss(z, torch.tensor([[1.0, 4.0]]), mask=torch.tensor([False])).item()
        0.0
    """
    code_vectors = code_vectors.detach()
    if mask is not None:
        squares = (vectors - code_vectors).square().sum(dim=1)
        count = mask.sum().clamp(min=1) * vectors.shape[1]
        return torch.where(mask, squares, 0.0).sum() / count
    if error is None or in_forward_mode():
        if is_tracing() or vectors.shape[0]:  # not len(), which binds a graph to one size
            return F.mse_loss(vectors, code_vectors)
        return vectors.square().sum()
    if not needs_gradient(vectors):
        return error
    result: Tensor = _LossWithValue.apply(vectors, code_vectors, error)  # type: ignore[no-untyped-call]
    return result


class _LossWithValue(Function):
    """The mean squared error, whose value is given."""

    @staticmethod
    def forward(vectors: Tensor, code_vectors: Tensor, error: Tensor) -> Tensor:
        return error.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.aten.mse_loss_backward(gradient, *ctx.saved_tensors, _MEAN), None, None
