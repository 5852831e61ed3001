"""Read the size of an image and the conversions that it needs, in most cases without decoding its pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from flatvq.data.conversion import Conversion
from flatvq.data.depth import depth_notes, is_deep
from flatvq.data.orientation import is_upright, orientation_of, upright_size
from flatvq.data.pillow import has_transparency, opened
from flatvq.data.ranges import from_start, png_chunks

__all__ = ["Header", "read_header"]

# An 8-bit greyscale image without a larger sample may be a label mask: it is at most an eighth as bright as
# white.
_LARGEST_LABEL = 31


@dataclass(frozen=True)
class Header:
    """The size of an image and the conversions that it needs."""

    height: int
    """Rows of the upright image after scaling."""
    width: int
    """Columns of the upright image after scaling."""
    notes: tuple[str, ...]
    """The conversions, in words; empty for a plain RGB image."""


def read_header(stream: BinaryIO, conversion: Conversion) -> Header:
    """Read the size of an image after scaling, and the conversions that it needs.

    Pixels are decoded in three cases only: more than 8 bits a sample, a greyscale file that may be a label
    mask and decodes quickly, and a file whose size is known only after decoding.

    Args:
        stream: the file's bytes, at their start.
        conversion: the size and white level to convert the image to.

    Raises:
        NotAnImageError: if the first bytes match no supported image format.
        Rejected: if the image is damaged or too large.
    """
    file_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with opened(stream) as image:
        width, height = conversion.target(*image.size)
        notes = list(_notes(image))
        if min(width, height) > min(image.size):
            notes.append(f"enlarged from {image.size[0]} x {image.size[1]}")
        width, height = conversion.target(*upright_size(image))
        size_is_certain = not _may_change_on_loading(image)
        if is_deep(image):
            notes += depth_notes(image, conversion.white_level)
        elif _is_quick_greyscale(image, file_bytes):
            notes += _mask_notes(image)
    if not size_is_certain:
        width, height = conversion.target(*_loaded_size(stream))
    return Header(height, width, tuple(notes))


def _notes(image: ImageFile.ImageFile) -> Iterator[str]:
    """Describe the conversions that an image needs."""
    kinds = {"1": "greyscale", "L": "greyscale", "LA": "greyscale", "P": "palette", "PA": "palette"}
    if image.mode in kinds:
        yield kinds[image.mode]
    elif image.mode.startswith("I"):
        yield "greyscale"
    elif image.mode not in {"RGB", "RGBA", "RGBX"}:
        yield image.mode
    if has_transparency(image):
        yield "transparency, laid over white"
    if not is_upright(image):
        yield f"turned upright from EXIF orientation {orientation_of(image)}"
    if getattr(image, "is_animated", False):
        yield "first of several frames"


def _may_change_on_loading(image: ImageFile.ImageFile) -> bool:
    """Return whether loading an image may change its size or orientation.

    An ICO file contains images that may differ from its directory. Pillow transposes TIFF files while it
    loads them. A PNG file may contain its orientation after its pixels.
    """
    if image.format == "PNG":
        return _metadata_follows_pixels(image)
    return image.format == "ICO" or (image.format == "TIFF" and not is_upright(image))


def _metadata_follows_pixels(image: ImageFile.ImageFile) -> bool:
    """Return whether EXIF or XMP data follow the pixels of a PNG file."""
    with from_start(image) as file:
        after_pixels = False
        for kind, content in png_chunks(file):
            after_pixels |= kind == b"IDAT"
            metadata = kind == b"eXIf" or content.startswith((b"XML:com.adobe.xmp", b"Raw profile type"))
            if after_pixels and metadata:
                return True
    return False


def _loaded_size(stream: BinaryIO) -> tuple[int, int]:
    """Return the width and height of an upright image after loading it."""
    stream.seek(0)
    # Opened again, because Pillow caches the orientation when it is first read.
    with opened(stream) as image:
        image.load()
        return upright_size(image)


def _is_quick_greyscale(image: ImageFile.ImageFile, file_bytes: int) -> bool:
    """Return whether a file of this many bytes may be a label mask that decodes quickly.

    It decodes quickly if it is uncompressed, or compressed to less than a quarter. Masks are, and hardly any
    photograph is.
    """
    if image.mode != "L" or image.format not in {"PNG", "TIFF", "BMP", "PPM"}:
        return False
    return image.tile[0][0] == "raw" or 4 * file_bytes < image.width * image.height


def _mask_notes(image: ImageFile.ImageFile) -> Iterator[str]:
    """Note an 8-bit greyscale image that may be a label mask. This loads its pixels."""
    largest = int(np.asarray(image).max())
    if 0 < largest <= _LARGEST_LABEL:
        yield f"no sample exceeds {largest} of 255, as in a label mask"
