"""The decoders of a model: from the code vectors of several levels to an image, or to the latents below.

Axes: B batch, D code dim, h w rows and columns of a level's grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flatvq.model.blocks import build
from flatvq.model.layout import DecoderLayout

__all__ = ["Decoder", "ResidualDecoder"]


class Decoder(nn.Module):
    """Decodes the code vectors of a level and of all levels above it, bottom first, to the grid below."""

    def __init__(self, layout: DecoderLayout) -> None:
        super().__init__()
        self.upsamplers = nn.ModuleList(build(upsampler) for upsampler in layout.upsamplers)
        self.trunk = build(layout.trunk)

    def forward(self, codes: list[Tensor]) -> Tensor:
        """Decode code vectors [B, D, h, w] of consecutive levels, bottom first."""
        own, *above = codes
        raised = [upsampler(code) for upsampler, code in zip(self.upsamplers, above, strict=True)]
        decoded: Tensor = self.trunk(torch.cat([own, *raised], dim=1))
        return decoded


class ResidualDecoder(nn.Module):
    """Decodes the sum of the code vectors of all levels, bottom first."""

    def __init__(self, layout: DecoderLayout) -> None:
        super().__init__()
        self.upsamplers = nn.ModuleList(build(upsampler) for upsampler in layout.upsamplers)
        self.trunk = build(layout.trunk)

    def forward(self, codes: list[Tensor]) -> Tensor:
        """Decode code vectors [B, D, h, w] of all levels, bottom first."""
        *below, total = codes
        for code, upsampler in zip(reversed(below), reversed(self.upsamplers), strict=True):
            total = code + upsampler(total)
        decoded: Tensor = self.trunk(total)
        return decoded
