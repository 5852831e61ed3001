"""Between the three channels of the data and the one or three of a model.

Axes: H W rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["with_channels"]

# ITU-R 601-2 in 16-bit fixed point, with Pillow's rounding. The weights sum to 2^16, so that grey stays grey.
_RED, _GREEN, _BLUE = 19595, 38470, 7471


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """Convert 8-bit images to one channel or to three, as Pillow's `convert("L")` and `convert("RGB")` do.

    Args:
        pixels: uint8 [..., 3, H, W] or [..., 1, H, W].
        channels: 1 or 3.

    Returns:
        uint8 [..., channels, H, W]; the input itself if it has as many channels. One channel is the luma of
        three, 0.299 R + 0.587 G + 0.114 B; three channels are equal ones.

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
