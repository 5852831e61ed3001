"""What a quantizer takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["Quantized", "check_channels"]


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


def check_channels(latents: Tensor, channels: int) -> None:
    """Refuse what is not [B, channels, *grid] or [N, channels].

    Raises:
        FlatvqError: if axis 1 is absent or of another size.
    """
    if latents.ndim < 2 or latents.shape[1] != channels:
        what = f"latents of shape {list(latents.shape)} do not have {channels} channels"
        raise FlatvqError(what, f"pass [B, {channels}, *grid] or [N, {channels}]")
