"""What a quantizer returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.deprecation import renamed_attribute

__all__ = ["Quantized"]


@dataclass(frozen=True)
class Quantized:
    """The result of quantizing channel-first maps [B, C, *grid] or flat vectors [N, C].

    The losses are unweighted means over all elements of valid positions, and zero if there are none. Multiply
    them by weights in one place.
    """

    quantized: Tensor
    """The codes in place of the inputs, of the input's shape and dtype; carries the estimator's gradient.
    Zero at masked positions."""
    indices: Tensor
    """int64 [B, *grid] or [N]; [B, Q, *grid] or [N, Q] where a position has Q indices. -1 at masked
    positions."""
    codebook_loss: Tensor
    """Scalar ||sg[z] - e||^2 (van den Oord et al. 2017, eq. 3, second term); reaches the codebook only."""
    commitment_loss: Tensor
    """Scalar ||z - sg[e]||^2 (the same, third term without beta); reaches the encoder only."""
    entropy_loss: Tensor
    """Scalar in nats that is small if latents are far from the borders between codes and all codes are used
    (Yu et al. 2023, eq. 5); reaches the encoder only. Zero for quantizers that have no such loss."""
    latents: Tensor
    """The quantizer's input in the space of the codes, detached: float32 [B, code_dim, *grid] or
    [N, code_dim]. Zero at masked positions."""
    code_vectors: Tensor
    """The code vector of each position, in the space and shape of `latents`: detached, before any projection
    back. Zero at masked positions."""

    codes = renamed_attribute("codes", "code_vectors")


# Programs of torch.export and transforms of torch.func may return it.
torch.export.register_dataclass(Quantized, serialized_type_name="flatvq.Quantized")
