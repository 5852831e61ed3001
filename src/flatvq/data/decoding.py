"""From a file to pixels: exactly, for what is evaluated; nearly, but quicker, for what is trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageFile

from flatvq.data.conversion import Conversion
from flatvq.data.jpeg import START, plain_size
from flatvq.data.native import can_decode_parts, decode_part
from flatvq.data.pillow import LARGEST_PIXELS, is_upright, opened, to_rgb, upright
from flatvq.data.types import Pixels, Region, Wanted, cut_out, whole

if TYPE_CHECKING:
    import torch

__all__ = ["Decode", "decode", "decode_for_training"]

# A JPEG is decoded at a reduced size for training if that is still at least this many times the size it is
# scaled to. At 3, about 3 values in 1,000 of a photograph are more than 2 levels off; at 2, 15 would be.
_AMPLE = 3


class Decode(Protocol):
    """A way from a file to pixels."""

    def __call__(self, stream: BinaryIO, conversion: Conversion, wanted: Wanted = ..., /) -> Pixels:
        """Decode an image, scale it, and return the part that is wanted."""


def decode(stream: BinaryIO, conversion: Conversion, wanted: Wanted = whole) -> Pixels:
    """Decode an image: upright, opaque, RGB, scaled bicubically from its full size, all by Pillow.

    What is evaluated is decoded like this, so that its pixels are those that others get of the file.

    Args:
        stream: the file's bytes, at their start.
        conversion: what to convert it to.
        wanted: what part of the scaled image is to be returned.

    Returns:
        uint8 [H, W, 3], read-only.

    Raises:
        Rejected: if it is damaged or too large.
    """
    with opened(stream) as image:
        rgb = upright(to_rgb(image, conversion.white_level), image)
        size = conversion.target(*rgb.size)
        if size != rgb.size:
            rgb = rgb.resize(size, Image.Resampling.BICUBIC)
        return _read_only(cut_out(np.array(rgb), wanted))


def decode_for_training(stream: BinaryIO, conversion: Conversion, wanted: Wanted = whole) -> Pixels:
    """Decode an image nearly as `decode` does, but quicker.

    The filter is the same, but PyTorch works it out, which is now and then one level off. A JPEG that is very
    large is decoded at a half, a quarter or an eighth of its size to begin with; of others, no more is made
    than the part that is wanted needs.

    Args:
        stream: the file's bytes, at their start.
        conversion: what to convert it to.
        wanted: what part of the scaled image is to be returned.

    Returns:
        uint8 [H, W, 3], read-only, of the same shape as from `decode`.

    Raises:
        Rejected: if it is damaged or too large.

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO()
        >>> Image.new("RGB", (500, 375), "teal").save(file, "PNG")
        >>> decode_for_training(file, Conversion(crop=64, resize=96))[0, 0].tolist()
        [0, 128, 128]
    """
    if can_decode_parts() and (pixels := _without_pillow(stream, conversion, wanted)) is not None:
        return pixels
    stream.seek(0)
    with opened(stream) as image:
        target = conversion.target(*image.size)
        covered = _reduce(image, target)
        plain = image.format == "JPEG" and image.mode in {"RGB", "L"} and is_upright(image)
        if plain and covered is None and can_decode_parts():
            stream.seek(0)
            if (pixels := _scaled_part(stream.read(), image.size, conversion, wanted)) is not None:
                return pixels
        rgb = to_rgb(image, conversion.white_level)
        if covered is not None:
            rgb = rgb.resize(target, Image.Resampling.BICUBIC, box=covered)
        rgb = upright(rgb, image)
        size = conversion.target(*rgb.size)
        pixels = np.array(rgb) if size == rgb.size else _scaled(_channels_last(rgb), size)
        return _read_only(cut_out(pixels, wanted))


def _without_pillow(stream: BinaryIO, conversion: Conversion, wanted: Wanted) -> Pixels | None:
    """Decode a plain JPEG of a usual size; return None for all else, of which no more than this is read."""
    if stream.read(len(START)) != START:
        return None
    file = START + stream.read()
    size = plain_size(file)
    if size is None or math.prod(size) > LARGEST_PIXELS or _reducible(size, conversion.target(*size)):
        return None
    return _scaled_part(file, size, conversion, wanted)


def _reducible(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Tell whether `_reduce` would reduce a JPEG of this size, before Pillow opens it."""
    return min(side // (_AMPLE * wanted) for side, wanted in zip(size, target, strict=True)) > 1


def _reduce(image: ImageFile.ImageFile, target: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Have a very large JPEG decoded at a reduced size.

    Returns:
        The part of the reduced image that the whole one covers, for its sides are rounded up; None if nothing
        is reduced, because the image is not so large or is of another format.
    """
    before = image.size
    drafted = image.draft("RGB", (_AMPLE * target[0], _AMPLE * target[1]))
    return None if drafted is None or image.size == before else drafted[1]


def _scaled_part(file: bytes, size: tuple[int, int], conversion: Conversion, wanted: Wanted) -> Pixels | None:
    """Decode no more of a plain JPEG than is wanted, and scale it; return None if Pillow has to do it."""
    target = conversion.target(*size)
    part = wanted(target[1], target[0])
    if target == size:
        pixels = decode_part(file, size, part)
    elif (pixels := decode_part(file, size, _under(part, target, size))) is not None:
        # Where nothing was decoded, noise is scaled, which is cut off next.
        pixels = _scaled(_as_tensor(pixels), target)
    return None if pixels is None else _read_only(part.of(pixels))


def _under(scaled: Region, target: tuple[int, int], size: tuple[int, int]) -> Region:
    """Return from which pixels of an image of a size those of a region are computed once it is scaled."""
    left, right = _span(scaled.left, scaled.width, target[0], size[0])
    top, bottom = _span(scaled.top, scaled.height, target[1], size[1])
    return Region(top, left, bottom - top, right - left)


def _span(first: int, count: int, scaled: int, own: int) -> tuple[int, int]:
    """Say from where to where, along one side, the bicubic filter looks for scaled pixels in a row.

    It reaches 2 pixels to either side of a centre (Keys 1981); where it shrinks, 2 of the scaled ones.
    """
    scale = own / scaled
    reach = 2 * max(scale, 1) + 1  # and a pixel for all roundings
    start, end = (first + 0.5) * scale - reach, (first + count - 0.5) * scale + reach
    return max(0, math.floor(start)), min(own, math.ceil(end))


def _scaled(image: torch.Tensor, size: tuple[int, int]) -> Pixels:
    """Scale uint8 [1, C, H, W], of which C may include padding, as Pillow does, in a fifth of the time.

    PyTorch's code for bytes descends from Pillow's, in vector instructions: its weights are integers too, but
    of 16 bits. On a processor without such instructions it is slower, and gives the same.
    """
    from torch.nn import functional

    width, height = size
    scaled = functional.interpolate(image, (height, width), mode="bicubic", antialias=True)
    # Sliced as an array, not as a tensor: at every call of PyTorch's, one thread may wait for others.
    return scaled.numpy()[0, :3].transpose(1, 2, 0)


def _channels_last(rgb: Image.Image) -> torch.Tensor:
    """Return an RGB image as PyTorch is quick at: uint8 [1, C, H, W], the channels side by side in memory.

    Pillow pads its pixels to 4 bytes. Where it shows them to others as they lie (from version 11.2, unless an
    image fills more than one of its blocks of memory, of 16 MiB), C is 4 and nothing is copied; else C is 3.
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
    """Return [H, W, C] as [1, C, H, W], the channels still side by side in memory.

    Reshaped: `pixels[None]` has a stride of 0, by which PyTorch does not see that the channels lie side by
    side, and parts them, which takes a quarter longer.
    """
    import torch

    return torch.from_numpy(pixels.reshape(1, *pixels.shape).transpose(0, 3, 1, 2))


def _read_only(pixels: Pixels) -> Pixels:
    pixels.flags.writeable = False
    return pixels
