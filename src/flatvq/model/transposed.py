"""A transposed convolution with a fast gradient of its bias on the CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["TransposedConv2d"]


class TransposedConv2d(nn.ConvTranspose2d):
    """PyTorch's `ConvTranspose2d`, with a faster backward pass on the CPU.

    oneDNN computes the gradient of the bias with slow reference code, which takes a quarter of the time of
    the layer. This class computes it as a sum over batch, rows and columns. Outputs, other gradients and
    parameters equal the parent class's. Groups, dilation and output padding are not supported.

    Example:
        >>> layer = TransposedConv2d(8, 3, kernel_size=4, stride=2, padding=1)
        >>> layer(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 3, 10, 10])
    """

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map [B, C, H, W] to [B, C', H', W']."""
        # `torch.func` transforms only the operator of PyTorch.
        transformed = torch._C._are_functorch_transforms_active()
        if images.device.type != "cpu" or not torch.is_grad_enabled() or self.bias is None or transformed:
            return super().forward(images, output_size)
        inputs = images, self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            precision = torch.get_autocast_dtype("cpu")
            inputs = tuple(tensor.to(precision) for tensor in inputs)  # type: ignore[assignment]
        return cast("Tensor", _Transposed.apply(*inputs, self.stride, self.padding))  # type: ignore[no-untyped-call]


class _Transposed(torch.autograd.Function):
    """The forward pass of PyTorch, and a backward pass that does not use oneDNN for the bias."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding
        return F.conv_transpose2d(images, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        to_images, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, images, weight, None, stride, padding, [1, 1], True, [0, 0], 1, needed
        )
        return to_images, to_weight, gradient.sum((0, 2, 3)), None, None
