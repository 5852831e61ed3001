"""Runs a tokenizer on large images in bands, so that memory does not grow with the image.

A band crosses the image along its shorter side. It is computed with a margin that is wider than the reach of
the model, and the margin is then cut off. The result equals the result for the whole image, apart from the
rounding of floating-point sums.

Axes: B batch, C channels, H W rows and columns of pixels, h w rows and columns of a level's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from flatvq.model import VQVAE
from flatvq.model.layout import layout_of

__all__ = ["bands", "decode_in_bands", "encode_in_bands"]

# A float32 map of the usual 64 channels at half the resolution takes 64 bytes per pixel; several are alive.
_PIXELS = 2**22


@dataclass(frozen=True)
class _Band:
    """A part of an image, in steps of as many rows or columns of pixels as the factor of the model."""

    axis: int
    """The axis that the band divides: -2 for rows, -1 for columns."""
    start: int
    stop: int
    first: int
    """The start with the margin."""
    last: int
    """The end with the margin."""

    def with_margin(self, maps: Tensor, per_step: int) -> Tensor:
        """Cut the band with its margin out of [..., h, w], with `per_step` rows or columns per step."""
        return maps.narrow(self.axis, self.first * per_step, (self.last - self.first) * per_step)

    def without_margin(self, maps: Tensor, per_step: int) -> Tensor:
        """Cut the margin off a band."""
        start, length = self.start - self.first, self.stop - self.start
        return maps.narrow(self.axis, start * per_step, length * per_step)


def encode_in_bands(model: VQVAE, pixels: Tensor) -> tuple[Tensor, ...]:
    """Encode an image.

    Args:
        model: the tokenizer.
        pixels: uint8 [1, C, H, W], with sides that are multiples of the factor.

    Returns:
        The indices of each level, as `model.encode` returns them.
    """
    device = next(model.parameters()).device
    sizes = _cells_per_step(model)
    divided = bands(model, pixels.shape[2], pixels.shape[3])
    parts = []
    for band in divided:
        levels = model.encode(band.with_margin(pixels, model.factor).to(device).float() / 255)
        parts.append([band.without_margin(level, size) for level, size in zip(levels, sizes, strict=True)])
    return tuple(torch.cat(level, dim=divided[0].axis) for level in zip(*parts, strict=True))


def decode_in_bands(model: VQVAE, indices: Sequence[Tensor]) -> Tensor:
    """Decode an image and round it to 8 bits.

    Args:
        model: the tokenizer.
        indices: the indices of each level of one image, as `model.decode` takes them.

    Returns:
        uint8 [C, H, W], on the CPU.
    """
    sizes = _cells_per_step(model)
    height, width = (cells // sizes[0] * model.factor for cells in indices[0].shape[-2:])
    divided = bands(model, height, width)
    parts = []
    for band in divided:
        levels = [band.with_margin(level, size) for level, size in zip(indices, sizes, strict=True)]
        decoded = band.without_margin(model.decode(levels)[0], model.factor)
        parts.append(decoded.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    return torch.cat(parts, dim=divided[0].axis)


def bands(model: VQVAE, height: int, width: int) -> list[_Band]:
    """Divide an image into bands: a single one for an image of moderate size.

    Args:
        model: the tokenizer.
        height: rows of pixels, a multiple of the factor.
        width: columns of pixels, a multiple of the factor.

    Returns:
        The bands, from the first row or column to the last.
    """
    axis, longer, shorter = (-2, height, width) if height >= width else (-1, width, height)
    margin = _margin(model)
    steps = longer // model.factor
    size = max(_PIXELS // (shorter * model.factor) - 2 * margin, 1)
    if steps <= size + 2 * margin:
        size = steps
    ends = [(start, min(start + size, steps)) for start in range(0, steps, size)]
    return [
        _Band(axis, start, stop, max(0, start - margin), min(steps, stop + margin)) for start, stop in ends
    ]


def _margin(model: VQVAE) -> int:
    """Return an upper bound of the reach of the model in steps: the sum over all convolutions."""
    layout = layout_of(model.recipe)
    decoders = [(*decoder.upsamplers, decoder.trunk) for decoder in layout.decoders]
    parts = chain(layout.encoders, layout.projections, *decoders)
    return sum(conv.kernel // 2 for part in parts for layer in part for conv in layer.convs)


def _cells_per_step(model: VQVAE) -> list[int]:
    """Return how many rows or columns of the grid of each level a step has."""
    cells, sizes = model.factor, []
    for level in model.recipe.levels:
        cells //= level.downsample
        sizes.append(cells)
    return sizes
