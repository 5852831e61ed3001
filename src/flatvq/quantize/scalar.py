"""Finite scalar quantization: the baseline without a codebook.

Axes: B batch, D = number of levels, h w the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.quantize.estimators import straight_through
from flatvq.quantize.result import Quantized, check_channels

__all__ = ["FiniteScalarQuantizer"]


class FiniteScalarQuantizer(nn.Module):
    """Round each of D bounded coordinates to one of its levels (Mentzer et al. 2023, section 3.1).

    Args:
        levels: L_1 ... L_D, each at least 2; [8, 5, 5, 5] is about 2^10 codes.

    Example:
        >>> fsq = FiniteScalarQuantizer([8, 5, 5, 5])
        >>> out = fsq(torch.zeros(1, 4, 2, 2))
        >>> out.indices.shape, fsq.codebook_size
        (torch.Size([1, 2, 2]), 1000)
        >>> bool((fsq.codes(out.indices) == out.quantized).all())
        True
    """

    levels: Tensor
    places: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise FlatvqError(f"levels {list(levels)} leave nothing to choose", "give 2 or more for each")
        self.codebook_size = math.prod(levels)
        self.code_dim = len(levels)
        places = [math.prod(levels[:position]) for position in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, latents: Float[Tensor, "b d *grid"]) -> Quantized:
        """Quantize [B, D, *grid]; both losses are zero, for there is no codebook."""
        check_channels(latents, self.code_dim)
        bounded = self._bounded(latents.float().movedim(1, -1))
        rounded = straight_through(bounded, bounded.detach().round())
        half = (self.levels // 2).to(rounded)
        digits = (rounded.detach() + half).long()
        zero = latents.new_zeros(())
        quantized = (rounded / half).movedim(-1, 1)
        return Quantized(
            quantized=quantized.to(latents.dtype),
            indices=(digits * self.places).sum(dim=-1),
            codebook_loss=zero,
            commitment_loss=zero,
            latents=(bounded.detach() / half).movedim(-1, 1),
            codes=quantized.detach(),
        )

    def codes(self, indices: Int64[Tensor, "b *grid"]) -> Float[Tensor, "b d *grid"]:
        """Look up indices: the point of the lattice that each stands for, in [-1, 1]."""
        digits = indices[..., None] // self.places % self.levels
        half = self.levels // 2
        return ((digits - half) / half).movedim(-1, 1)

    def _bounded(self, latents: Tensor) -> Tensor:
        """Squash each coordinate to where rounding leaves just its levels (the paper's listing, `bound`)."""
        # Slightly more than the levels span; the paper's (L - 1)(1 - eps) / 2 is slightly less and has no
        # inverse tanh for a level of 2. By a constant, as a factor would let many levels round to one more.
        half_range = (self.levels - 1) / 2 + 5e-4
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return torch.tanh(latents + shift) * half_range - offset
