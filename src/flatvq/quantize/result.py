"""What a quantizer gives back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Quantized"]


@dataclass(frozen=True)
class Quantized:
    """The outcome of quantizing channel-first maps [B, D, *grid] or flat vectors [N, D].

    The losses are unweighted means over all elements; whoever trains multiplies them with weights, once.
    """

    quantized: Tensor
    """The codes in place of the inputs, shaped like the input; carries the estimator's gradient."""
    indices: Tensor
    """Which code stands where: int64 [B, *grid] or [N]."""
    codebook_loss: Tensor
    """Scalar ||sg[z] - e||^2 (van den Oord et al. 2017, eq. 3, second term); reaches the codebook only."""
    commitment_loss: Tensor
    """Scalar ||z - sg[e]||^2 (the same, third term without beta); reaches the encoder only."""
    latents: Tensor
    """What was quantized, detached, in the space of the codes: [B, code_dim, *grid] or [N, code_dim]."""
    codes: Tensor
    """What stands in its place, in the same space and shape: detached, before any projection back."""
