"""Converts images to the number of channels of a model, one or three.

Axes: H W rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["with_channels"]

# ITU-R 601-2 in 16-bit fixed point, with the rounding of Pillow. The weights sum to 2^16: gray is unchanged.
_RED, _GREEN, _BLUE = 19595, 38470, 7471


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """Convert 8-bit images to one or three channels, as `convert("L")` and `convert("RGB")` of Pillow do.

    Args:
        pixels: uint8 [..., 3, H, W] or [..., 1, H, W].
        channels: 1 or 3.

    Returns:
        uint8 [..., channels, H, W]; the input itself if the number of channels is the same. One channel is
        the luma 0.299 R + 0.587 G + 0.114 B. Three channels are three copies of one.

    Raises:
        FlatvqError: if the dtype is not uint8, or the images have another number of channels.

    Example:
        >>> with_channels(torch.tensor([255, 128, 0], dtype=torch.uint8).view(3, 1, 1), 1).item()
        151
    """
    if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-3] not in (1, 3):
        dtype = str(pixels.dtype).removeprefix("torch.")
        what = f"pixels of dtype {dtype} and shape {list(pixels.shape)} are not uint8 [..., 3, H, W]"
        raise FlatvqError(what, "pass 8-bit images with the channels before H and W")
    if pixels.shape[-3] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(*pixels.shape[:-3], 3, *pixels.shape[-2:])
    red, green, blue = pixels.int().unbind(-3)
    luma = (_RED * red + _GREEN * green + _BLUE * blue + (1 << 15)) >> 16
    return luma.to(torch.uint8).unsqueeze(-3)
