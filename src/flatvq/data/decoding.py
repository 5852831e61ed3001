"""Decode files to pixels: exactly for evaluation, and approximately but faster for training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageFile

from flatvq.data.conversion import LARGEST_PIXELS, Conversion, Rejected
from flatvq.data.jpeg import START, plain_size
from flatvq.data.native import can_decode_parts, decode_part
from flatvq.data.orientation import is_upright, upright
from flatvq.data.pillow import opened, to_rgb
from flatvq.data.types import Pixels, Region

if TYPE_CHECKING:
    import torch

__all__ = ["Decode", "cut", "decode", "decode_for_training"]

# For training, a JPEG is decoded at a reduced size if that is still at least this many times the size that it
# is scaled to. At 3, about 3 values in 1,000 of a photograph are off by more than 2 levels; at 2, 15 are.
_MIN_REDUCED = 3


class Decode(Protocol):
    """A function that decodes a file to pixels."""

    def __call__(self, stream: BinaryIO, conversion: Conversion, region: Region | None = ..., /) -> Pixels:
        """Decode an image, scale it, and return a region of it or, for None, all of it."""


def cut(pixels: Pixels, region: Region | None) -> Pixels:
    """Return a view of a region of an image [H, W, C], or the image itself for None.

    Raises:
        Rejected: if the region is not inside the image, because the file has changed since its size was read.
    """
    if region is None:
        return pixels
    _require_inside(region, pixels.shape[0], pixels.shape[1])
    return region.of(pixels)


def decode(stream: BinaryIO, conversion: Conversion, region: Region | None = None) -> Pixels:
    """Decode an image with Pillow: upright, opaque, RGB, scaled bicubically from its full size.

    Images for evaluation are decoded in this way, so that their pixels are those that other programs get.

    Args:
        stream: the file's bytes, at their start.
        conversion: the size and white level to convert the image to.
        region: the region of the scaled image to return; None for all of it.

    Returns:
        uint8 [H, W, 3], read-only.

    Raises:
        Rejected: if the image is damaged or too large.
    """
    with opened(stream) as image:
        rgb = upright(to_rgb(image, conversion.white_level), image)
        size = conversion.target(*rgb.size)
        if size != rgb.size:
            rgb = rgb.resize(size, Image.Resampling.BICUBIC)
        return _read_only(cut(np.array(rgb), region))


def decode_for_training(stream: BinaryIO, conversion: Conversion, region: Region | None = None) -> Pixels:
    """Decode an image approximately as `decode` does, but faster.

    PyTorch computes the bicubic filter: at most one value in 100 differs, by at most two levels. A very large
    JPEG is decoded at a half, a quarter or an eighth of its size. Of other JPEGs, only the pixels that the
    region needs are decoded.

    Args:
        stream: the file's bytes, at their start.
        conversion: the size and white level to convert the image to.
        region: the region of the scaled image to return; None for all of it.

    Returns:
        uint8 [H, W, 3], read-only, of the same shape as from `decode`.

    Raises:
        Rejected: if the image is damaged or too large.

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO()
        >>> Image.new("RGB", (500, 375), "teal").save(file, "PNG")
        >>> decode_for_training(file, Conversion(crop=64, resize=96))[0, 0].tolist()
        [0, 128, 128]
    """
    if can_decode_parts() and (pixels := _decode_without_pillow(stream, conversion, region)) is not None:
        return pixels
    stream.seek(0)
    with opened(stream) as image:
        target = conversion.target(*image.size)
        covered = _reduce(image, target)
        plain = image.format == "JPEG" and image.mode in {"RGB", "L"} and is_upright(image)
        if plain and covered is None and can_decode_parts():
            stream.seek(0)
            if (pixels := _decode_region(stream.read(), image.size, conversion, region)) is not None:
                return pixels
        rgb = to_rgb(image, conversion.white_level)
        if covered is not None:
            rgb = rgb.resize(target, Image.Resampling.BICUBIC, box=covered)
        rgb = upright(rgb, image)
        size = conversion.target(*rgb.size)
        pixels = np.array(rgb) if size == rgb.size else _scaled(_channels_last(rgb), size)
        return _read_only(cut(pixels, region))


def _decode_without_pillow(stream: BinaryIO, conversion: Conversion, region: Region | None) -> Pixels | None:
    """Decode a plain JPEG of a usual size. Return None for any other file, after reading its first bytes."""
    if stream.read(len(START)) != START:
        return None
    file = START + stream.read()
    size = plain_size(file)
    if size is None or math.prod(size) > LARGEST_PIXELS or _reducible(size, conversion.target(*size)):
        return None
    return _decode_region(file, size, conversion, region)


def _reducible(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Return whether `_reduce` would reduce a JPEG of this size, without opening it with Pillow."""
    return min(side // (_MIN_REDUCED * scaled) for side, scaled in zip(size, target, strict=True)) > 1


def _reduce(image: ImageFile.ImageFile, target: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Configure a very large JPEG to be decoded at a reduced size.

    Returns:
        The box of the reduced image that the full image covers, because reduced sides are rounded up; None if
        the image is not that large or not a JPEG.
    """
    before = image.size
    drafted = image.draft("RGB", (_MIN_REDUCED * target[0], _MIN_REDUCED * target[1]))
    return None if drafted is None or image.size == before else drafted[1]


def _decode_region(
    file: bytes, size: tuple[int, int], conversion: Conversion, region: Region | None
) -> Pixels | None:
    """Decode the pixels of a plain JPEG that a region needs, and scale them; return None if Pillow has to."""
    target = conversion.target(*size)
    region = region or Region(0, 0, target[1], target[0])
    _require_inside(region, target[1], target[0])
    if target == size:
        pixels = decode_part(file, size, region)
    elif (pixels := decode_part(file, size, _before_scaling(region, target, size))) is not None:
        # Pixels that were not decoded are scaled too, but the region does not contain them.
        pixels = _scaled(_as_tensor(pixels), target)
    return None if pixels is None else _read_only(region.of(pixels))


def _require_inside(region: Region, height: int, width: int) -> None:
    if not region.fits(height, width):
        raise Rejected(f"has changed to {width} x {height} pixels since it was first read")


def _before_scaling(scaled: Region, target: tuple[int, int], size: tuple[int, int]) -> Region:
    """Return the region of the unscaled image from which a region of the scaled image is computed.

    Args:
        scaled: the region of the scaled image.
        target: width and height after scaling.
        size: width and height before scaling.
    """
    left, right = _span(scaled.left, scaled.width, target[0], size[0])
    top, bottom = _span(scaled.top, scaled.height, target[1], size[1])
    return Region(top, left, bottom - top, right - left)


def _span(first: int, count: int, scaled: int, own: int) -> tuple[int, int]:
    """Return the start and end of the pixels that the bicubic filter reads along one side.

    The filter reaches 2 pixels to either side of a centre (Keys 1981); when shrinking, 2 scaled pixels.

    Args:
        first: the first scaled pixel.
        count: number of scaled pixels.
        scaled: length of the side after scaling.
        own: length of the side before scaling.
    """
    scale = own / scaled
    reach = 2 * max(scale, 1) + 1  # one more pixel for rounding
    start, end = (first + 0.5) * scale - reach, (first + count - 0.5) * scale + reach
    return max(0, math.floor(start)), min(own, math.ceil(end))


def _scaled(image: torch.Tensor, size: tuple[int, int]) -> Pixels:
    """Scale uint8 [1, C, H, W], where C may include padding, as Pillow does but in a fifth of the time.

    PyTorch's code for bytes derives from Pillow's, with vector instructions and integer weights of 16 bits.
    On a processor without such instructions it is slower, and the result is the same.
    """
    from torch.nn import functional

    width, height = size
    scaled = functional.interpolate(image, (height, width), mode="bicubic", antialias=True)
    # Sliced as an array, not as a tensor: a thread may wait for others at every call of PyTorch.
    return scaled.numpy()[0, :3].transpose(1, 2, 0)


def _channels_last(rgb: Image.Image) -> torch.Tensor:
    """Return an RGB image in the layout for which PyTorch is fast: uint8 [1, C, H, W], channels last.

    Pillow pads its pixels to 4 bytes. From version 11.2 it exposes this memory, unless the image fills more
    than one of its 16 MiB blocks. Then C is 4 and nothing is copied; otherwise C is 3.
    """
    import pyarrow as pa
    import torch

    width, height = rgb.size
    try:
        padded = torch.utils.dlpack.from_dlpack(pa.array(rgb).values)
    except (ValueError, TypeError):
        return _as_tensor(np.array(rgb))
    return padded.as_strided((1, 4, height, width), (4 * width * height, 1, 4 * width, 4))


def _as_tensor(pixels: Pixels) -> torch.Tensor:
    """Return [H, W, C] as [1, C, H, W], channels last.

    The array is reshaped because `pixels[None]` has a stride of 0. PyTorch then does not recognize the layout
    and copies the channels apart, which takes a quarter longer.
    """
    import torch

    return torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))


def _read_only(pixels: Pixels) -> Pixels:
    pixels.flags.writeable = False
    return pixels
