"""The result of a quantizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.deprecation import renamed_attribute

__all__ = ["Quantized"]


@dataclass(frozen=True)
class Quantized:
    """The result of quantizing channel-first maps [B, C, *grid] or flat vectors [N, C].

    The losses are unweighted means over all elements of valid positions, and zero without valid positions.
    """

    quantized: Tensor
    """The quantized input, in its shape and dtype, with the gradient of the estimator. Zero at masked
    positions."""
    indices: Tensor
    """int64 [B, *grid] or [N]; [B, Q, *grid] or [N, Q] if a position has Q indices. -1 at masked
    positions."""
    codebook_loss: Tensor
    """Scalar ||sg[z] - e||^2 (van den Oord et al. 2017, eq. 3, second term). Its gradient reaches the
    codebook only."""
    commitment_loss: Tensor
    """Scalar ||z - sg[e]||^2 (eq. 3, third term, without beta). Its gradient reaches the encoder only."""
    entropy_loss: Tensor
    """Scalar in nats that is small if latents are far from the borders between codes and all codes are used
    (Yu et al. 2023, eq. 5). Its gradient reaches the encoder only. Zero for quantizers without this loss."""
    latents: Tensor
    """The input in the space of the code vectors, detached: float32 [B, code_dim, *grid] or [N, code_dim].
    Zero at masked positions."""
    code_vectors: Tensor
    """The code vector of each position, detached, in the space and shape of `latents`: before a projection
    back. Zero at masked positions."""

    codes = renamed_attribute("codes", "code_vectors")


# So that programs of torch.export and transforms of torch.func can return it.
torch.export.register_dataclass(Quantized, serialized_type_name="flatvq.Quantized")
