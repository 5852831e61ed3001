"""Reconstruct 8-bit images with any tokenizer, at the size of its inputs.

Axes: B batch, C channels, H W rows and columns.
"""

from __future__ import annotations

from math import log2, prod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flatvq.data.types import Pixels
from flatvq.evaluate.fidelity import as_stored
from flatvq.model import VQVAE
from flatvq.model.mode import eval_mode
from flatvq.model.pixels import with_channels
from flatvq.shapes import require_axes
from flatvq.tokenizers import Tokenizer
from flatvq.tokenizers.outputs import decoded, encoded, require_same_scale

__all__ = ["as_pixels", "nominal_bytes", "planes_of", "reconstructed", "reconstruction_of"]


@torch.no_grad()
def reconstructed(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """Return `decode(encode(images))`, rounded to 8 bits.

    If the sides are not multiples of the factor of the tokenizer, the last row and column are repeated, and
    cut off afterwards. Computations are in float32.

    Args:
        tokenizer: the tokenizer, on any device.
        images: uint8 [B, C, H, W], with the channels of `tokenizer.preprocess`.

    Returns:
        uint8 of the same shape, on the CPU.

    Raises:
        FlatvqError: if the axes do not match, or the tokenizer fails, or returns other indices or images than
            it describes.
        NonFiniteError: if a reconstruction contains NaN or infinity.

    Example:
        >>> from flatvq.tokenizers import Preprocess, TokenizerLevel
        >>> class Threshold(Tokenizer):
        ...     levels = (TokenizerLevel(codebook_size=2, factor=1),)
        ...     preprocess = Preprocess(channels=1)
        ...     def encode(self, images):
        ...         return ((images[:, 0] > 0.5).long(),)
        ...     def decode(self, indices):
        ...         return indices[0][:, None].float()
        >>> reconstructed(Threshold(), torch.tensor([[[[20, 200]]]], dtype=torch.uint8)).tolist()
        [[[[0, 255]]]]
    """
    require_axes(images, "images", "B", tokenizer.preprocess.channels, "H", "W")
    height, width = images.shape[2:]
    right, below = -width % tokenizer.factor, -height % tokenizer.factor
    module = tokenizer if isinstance(tokenizer, nn.Module) else nn.Module()
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    pixels = F.pad(images.to(device).float() / 255, (0, right, 0, below), mode="replicate")
    with eval_mode(module), torch.autocast(device.type, enabled=False):
        output = decoded(tokenizer, encoded(tokenizer, pixels), *pixels.shape[2:])
    if not isinstance(tokenizer, VQVAE):
        require_same_scale(output, pixels)
    cut = output[:, :, :height, :width]
    return as_stored(cut).mul(255).round().to(torch.uint8).cpu()


def reconstruction_of(tokenizer: Tokenizer, image: Pixels) -> Pixels:
    """Reconstruct one image, converted to the channels of the tokenizer.

    Args:
        tokenizer: the tokenizer, on any device.
        image: uint8 [H, W, 3].

    Returns:
        uint8 [H, W, C].

    Raises:
        FlatvqError: see `reconstructed`.
    """
    return as_pixels(reconstructed(tokenizer, planes_of(tokenizer, image)))


def planes_of(tokenizer: Tokenizer, image: Pixels) -> Tensor:
    """Return an image uint8 [H, W, 3] as uint8 [1, C, H, W], with the channels of the tokenizer."""
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return with_channels(planes, tokenizer.preprocess.channels)


def as_pixels(planes: Tensor) -> Pixels:
    """Return an image uint8 [1, C, H, W] as uint8 [H, W, C]."""
    return np.ascontiguousarray(planes[0].permute(1, 2, 0).numpy())


def nominal_bytes(tokenizer: Tokenizer, height: int, width: int) -> float:
    """Return the nominal bytes of an image: the sum over levels of h x w x Q x log2 K, divided by 8.

    Args:
        tokenizer: the tokenizer.
        height: rows of pixels, of any number: the grids cover the padded image.
        width: columns of pixels.
    """
    padded = height + -height % tokenizer.factor, width + -width % tokenizer.factor
    bits = sum(prod(level.shape_for(*padded)) * log2(level.codebook_size) for level in tokenizer.levels)
    return bits / 8
