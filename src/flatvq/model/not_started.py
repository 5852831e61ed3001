"""The output of a level that has not started.

Axes: B batch, D code dim, h w rows and columns of the grid of the level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flatvq.quantize import Quantized

__all__ = ["not_started"]


def not_started(latents: Tensor, index_shape: tuple[int, ...]) -> Quantized:
    """Return zeros in place of the output of a quantizer. Their gradients are zero.

    Args:
        latents: [B, D, h, w].
        index_shape: `Quantizer.index_shape`.
    """
    batch, _, *grid = latents.shape
    zeros = torch.zeros_like(latents, dtype=torch.float32)
    zero = latents.new_zeros((), dtype=torch.float32)
    return Quantized(
        quantized=latents * 0,
        indices=torch.zeros(batch, *index_shape, *grid, dtype=torch.int64, device=latents.device),
        codebook_loss=zero,
        commitment_loss=zero,
        entropy_loss=zero,
        latents=latents.detach().float(),
        code_vectors=zeros,
    )
