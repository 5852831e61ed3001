"""Convert images of more than 8 bits a sample to 8 bits, and describe the conversion for the record.

The width of a sample is not its range: cameras and scanners store 12 bits in 16, and label masks 2. White is
the value that the file states, or else `data.white_level`, or else the maximum of 16 bits. In the last case
the record names images whose samples would fit fewer bits.

Axes: H W rows and columns, C channels, absent in greyscale images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from flatvq.data.conversion import Rejected
from flatvq.data.ranges import (
    FULL,
    Range,
    Samples,
    from_start,
    jpeg2000_bits,
    jpeg2000_is_signed,
    ppm_maximum,
    stated_range,
)

__all__ = ["depth_notes", "is_deep", "refuse_unknown_ranges", "to_eight_bits"]

# Pillow decodes the high bytes of 16-bit colour. The raw mode of the other byte order decodes the low bytes.
_SWAPPED = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_SWAPPABLE = {name + order for name in ("RGB", "RGBX", "RGBA", "CMYK") for order in _SWAPPED}
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2


def refuse_unknown_ranges(image: ImageFile.ImageFile) -> None:
    """Reject an opened image if the sample value of white is unknown, or if Pillow misreads the samples.

    Raises:
        Rejected: if samples are signed, floating-point or 32-bit, or 16-bit in separate planes.
    """
    if image.mode == "F":
        raise Rejected("floating-point samples have no known white")
    if image.format == "JPEG2000" and jpeg2000_is_signed(image):
        raise Rejected("signed samples have no known white")
    if image.format != "TIFF":
        return
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise Rejected("signed samples have no known white")
    if image.mode == "I":
        raise Rejected("samples of 32 bits have no known white")
    if max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8 and not is_deep(image):
        raise Rejected("16-bit samples in separate planes, which Pillow reads as 8-bit ones")


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened image has more than 8 bits a sample in its file."""
    if _is_grey(image) or ";16" in str(image.tile[:1]):
        return True
    if image.format == "PPM":
        return ppm_maximum(image) > 255
    return image.format == "JPEG2000" and jpeg2000_bits(image) > 8


def to_eight_bits(image: ImageFile.ImageFile, white_level: int) -> Image.Image:
    """Load an image of more than 8 bits a sample, and convert it to 8 bits a sample.

    Args:
        image: an opened image, whose pixels are not loaded yet.
        white_level: the sample of white if the file does not state it; 0 for the maximum of 16 bits.

    Returns:
        The image, of mode L, LA, RGB, RGBA or CMYK. A colour that is declared transparent becomes alpha.

    Raises:
        Rejected: if Pillow decodes only the high bytes, and they do not suffice.
    """
    stated = _range(image, white_level)
    transparent = image.info.get("transparency")
    if not _is_grey(image) and stated.white == FULL and transparent is None:
        image.load()  # Pillow decodes the high bytes
        return image
    samples = _samples(image)
    corrected = stated.corrected(_colours(image, samples))
    levels = corrected.levels(samples)
    if image.mode == "RGBA" and not corrected.shift and samples[..., -1].max() > corrected.white:
        levels[..., -1] = Range().levels(samples[..., -1])  # alpha has 16 bits, the colours have fewer
    eight = Image.frombytes("L" if _is_grey(image) else image.mode, image.size, levels.tobytes())
    if transparent is not None:
        matches = samples == transparent
        opaque = ~(matches if _is_grey(image) else matches.all(axis=2))
        eight.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return eight


def depth_notes(image: ImageFile.ImageFile, white_level: int) -> Iterator[str]:
    """Describe what `to_eight_bits` does with an image. This loads its pixels.

    Args:
        image: an opened image, whose pixels are not loaded yet.
        white_level: the sample of white if the file does not state it; 0 for the maximum of 16 bits.

    Yields:
        Clauses for the record.

    Raises:
        Rejected: as `to_eight_bits`.
    """
    yield "more than 8 bits a sample"
    stated = _range(image, white_level)
    samples = _colours(image, _samples(image))
    corrected, largest = stated.corrected(samples), int(samples.max())
    if corrected.inverted:
        yield "white is zero, inverted"
    if corrected.white != FULL and not corrected.shift:
        above = f", samples of up to {largest} are cut off" if largest > corrected.white else ""
        yield f"white is {corrected.white} by {corrected.stated_by}{above}"
    if not corrected.stated_by and 0 < largest < 2**15:
        bits = largest.bit_length()
        yield (
            f"no sample exceeds {largest} of {FULL}; if they have {bits} bits, "
            f"set data.white_level to {2**bits - 1}"
        )


def _range(image: ImageFile.ImageFile, white_level: int) -> Range:
    """Return the range that the file states, or else the range that the recipe states."""
    stated, exact = stated_range(image), _is_grey(image) or bool(_tiles(image))
    if stated.shift and not exact:
        stated = Range()  # without the low bits, the meaning of `sBIT` is unknown
    if white_level and not stated.stated_by:
        stated = Range(white_level, inverted=stated.inverted, stated_by="data.white_level")
    if stated.white != FULL and not exact:
        what = f"white is {stated.white} by {stated.stated_by}"
        raise Rejected(f"{what}, but Pillow decodes only the high bytes of this {image.format} file")
    return stated


def _colours(image: ImageFile.ImageFile, samples: Samples) -> Samples:
    """Return the samples without alpha."""
    return samples[..., :-1] if image.mode in {"LA", "RGBA"} else samples


def _samples(image: ImageFile.ImageFile) -> Samples:
    """Load an image; return its samples, [H, W] or [H, W, C]. Unreadable low bytes become 255."""
    if _is_grey(image):
        return np.asarray(image).astype(np.uint16)
    low: Any = 255
    if tiles := _tiles(image):
        with from_start(image) as file, Image.open(file, formats=[str(image.format)]) as reopened:
            reopened.tile = [low for _, low in tiles]
            low = np.asarray(reopened)
        image.tile = [high for high, _ in tiles]
    high = np.asarray(image).astype(np.uint16)
    samples: Samples = high << 8 | low
    return samples


def _tiles(image: ImageFile.ImageFile) -> list[tuple[Any, Any]]:
    """Return Pillow's tiles for the high and the low bytes of each part of an image; empty if it has none."""
    tiles: list[tuple[Any, Any]] = []
    args: Any
    for tile in image.tile:
        codec, extents, offset, args = tile
        if codec == "ppm":
            codec, args = "raw", ("RGB;16B", 0, 1)
        mode, rest = (args, None) if isinstance(args, str) else (args[0], args[1:])
        if mode not in _SWAPPABLE:
            return []
        swapped = mode[:-4] + _SWAPPED[mode[-4:]]
        modes = [name if rest is None else (name, *rest) for name in (mode, swapped)]
        # Tiles are named tuples since Pillow 11.
        make = getattr(tile, "_make", tuple)
        high, low = (make((codec, extents, offset, raw_mode)) for raw_mode in modes)
        tiles.append((high, low))
    return tiles


def _is_grey(image: Image.Image) -> bool:
    """Return whether Pillow keeps all bits of an image; "I" is also its mode of 16-bit PNG and PGM files."""
    return image.mode.startswith("I")
