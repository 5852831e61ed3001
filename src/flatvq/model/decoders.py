"""The decoders of a model: from the code vectors of several levels to an image, or to the latents below.

Axes: B batch, D code dim, h w rows and columns of a level's grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flatvq.model.blocks import build
from flatvq.model.layout import DecoderLayout

__all__ = ["Decoder", "ResidualDecoder"]


class _LevelsDecoder(nn.Module):
    """The parts of both decoders."""

    def __init__(self, layout: DecoderLayout) -> None:
        super().__init__()
        self.upsamplers = nn.ModuleList(build(upsampler) for upsampler in layout.upsamplers)
        self.trunk = build(layout.trunk)


class Decoder(_LevelsDecoder):
    """Decodes the code vectors of a level and of all levels above it, bottom first, to the grid below."""

    def forward(self, code_vectors: list[Tensor]) -> Tensor:
        """Decode code vectors [B, D, h, w] of consecutive levels, bottom first."""
        own, *above = code_vectors
        raised = [upsampler(level) for upsampler, level in zip(self.upsamplers, above, strict=True)]
        decoded: Tensor = self.trunk(torch.cat([own, *raised], dim=1))
        return decoded


class ResidualDecoder(_LevelsDecoder):
    """Decodes the sum of the code vectors of all levels, bottom first."""

    def forward(self, code_vectors: list[Tensor]) -> Tensor:
        """Decode code vectors [B, D, h, w] of all levels, bottom first."""
        *below, total = code_vectors
        for level, upsampler in zip(reversed(below), reversed(self.upsamplers), strict=True):
            total = level + upsampler(total)
        decoded: Tensor = self.trunk(total)
        return decoded
