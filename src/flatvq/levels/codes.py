"""Encode images, look up their code vectors, and measure the PSNR of decoders.

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

__all__ = [
    "Decode",
    "code_vectors_of",
    "encode_pixels",
    "level_code_vectors",
    "mean_psnr",
    "stack_crops",
    "to_images",
]

Decode = Callable[[list[Tensor]], Tensor]
"""Decodes the code vectors of every level [B, D, h, w], bottom first, to images [B, C, H, W] in [0, 1]."""
_BATCH = 64


def stack_crops(crops: Iterable[NamedImage]) -> Tensor:
    """Stack crops of equal size into uint8 [B, 3, H, W]."""
    return torch.from_numpy(np.stack([pixels for _, pixels in crops])).permute(0, 3, 1, 2)


def to_images(pixels: Tensor, model: VQVAE) -> Tensor:
    """Convert uint8 [B, 3, H, W] to the input of a model, on its device."""
    pixels = with_channels(pixels.to(next(model.parameters()).device), model.recipe.channels)
    return pixels.to(memory_format=torch.channels_last).float() / 255


@torch.no_grad()
def encode_pixels(model: VQVAE, pixels: Tensor) -> tuple[Tensor, ...]:
    """Encode pixels in batches.

    Args:
        model: the tokenizer, in eval mode.
        pixels: uint8 [B, 3, H, W].

    Returns:
        The indices of each level, int64 [B, h, w], bottom first.
    """
    batches = [model.encode(to_images(batch, model)) for batch in torch.split(pixels, _BATCH)]
    return tuple(torch.cat(level) for level in zip(*batches, strict=True))


def code_vectors_of(model: VQVAE, indices: Sequence[Tensor]) -> list[Tensor]:
    """Look up the code vectors of every level: [B, D, h, w], bottom first."""
    return [level_code_vectors(model, level, grid) for level, grid in enumerate(indices)]


def level_code_vectors(model: VQVAE, level: int, indices: Tensor) -> Tensor:
    """Look up the code vectors of one level: [B, D, h, w]."""
    return cast("Quantizer", model.quantizers[level]).decode_indices(indices)


@torch.no_grad()
def mean_psnr(decode: Decode, code_vectors: Sequence[Tensor], pixels: Tensor) -> float:
    """Return the mean PSNR of decoded images in dB, as an evaluation computes it.

    Args:
        decode: the decoder.
        code_vectors: the code vectors of every level, bottom first.
        pixels: the original images, uint8 [B, 3, H, W].
    """
    psnr_db = []
    batches = zip(*(torch.split(array, _BATCH) for array in (pixels, *code_vectors)), strict=True)
    for original, *levels in batches:
        stored = fidelity.as_stored(decode(levels)).cpu()
        original = with_channels(original, stored.shape[1])
        psnr_db.append(fidelity.psnr(stored, original.float() / 255, data_range=1.0))
    return float(torch.cat(psnr_db).mean())
