"""Frozen codes of images, and what decoders make of them.

Axes: B images, H W rows and columns, h w a level's grid, D code dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from flatvq.evaluate import fidelity
from flatvq.evaluate.batches import NamedImage
from flatvq.model import VQVAE
from flatvq.model.pixels import with_channels
from flatvq.quantize import Quantizer

__all__ = ["Decode", "as_images", "codes_of", "codes_of_level", "encoded", "mean_psnr", "stacked"]

Decode = Callable[[list[Tensor]], Tensor]
"""From the codes of every level [B, D, h, w], bottom first, to images [B, C, H, W]."""
_BATCH = 64


def stacked(crops: Iterable[NamedImage]) -> Tensor:
    """Stack crops of one size: uint8 [B, 3, H, W]."""
    return torch.from_numpy(np.stack([pixels for _, pixels in crops])).permute(0, 3, 1, 2)


def as_images(pixels: Tensor, model: VQVAE) -> Tensor:
    """Turn uint8 [B, 3, H, W] into what a model takes, on its device."""
    pixels = with_channels(pixels.to(next(model.parameters()).device), model.recipe.channels)
    return pixels.to(memory_format=torch.channels_last).float() / 255


@torch.no_grad()
def encoded(model: VQVAE, pixels: Tensor) -> tuple[Tensor, ...]:
    """Encode uint8 [B, 3, H, W] in batches.

    Returns:
        int64 [B, h, w] for each level, bottom first.
    """
    parts = [model.encode(as_images(part, model)) for part in torch.split(pixels, _BATCH)]
    return tuple(torch.cat(level) for level in zip(*parts, strict=True))


def codes_of(model: VQVAE, indices: Sequence[Tensor]) -> list[Tensor]:
    """Look the codes of every level up: [B, D, h, w], bottom first."""
    return [codes_of_level(model, level, grid) for level, grid in enumerate(indices)]


def codes_of_level(model: VQVAE, level: int, indices: Tensor) -> Tensor:
    """Look the codes of one level up: [B, D, h, w]."""
    return cast("Quantizer", model.quantizers[level]).decode_indices(indices)


@torch.no_grad()
def mean_psnr(decode: Decode, codes: Sequence[Tensor], pixels: Tensor) -> float:
    """Decode in batches and return the mean of the images' PSNR in dB, as an evaluation measures it."""
    found = []
    batches = zip(*(torch.split(array, _BATCH) for array in (pixels, *codes)), strict=True)
    for original, *levels in batches:
        stored = fidelity.as_stored(decode(levels)).cpu()
        original = with_channels(original, stored.shape[1])
        found.append(fidelity.psnr(stored, original.float() / 255, data_range=1.0))
    return float(torch.cat(found).mean())
