"""The one place that opens files with Pillow: hostile ones too; say what they hold, and make them RGB.

Pillow's plugins raise nearly any exception on a damaged file, so whatever they raise becomes a `Rejected`.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from flatvq.data import libtiff
from flatvq.data.conversion import Conversion, NotAnImageError, Rejected
from flatvq.data.depth import depth_notes, is_deep, refuse_unknown_ranges, to_eight_bits
from flatvq.data.reasons import reason_of

__all__ = [
    "LARGEST_PIXELS",
    "Header",
    "is_upright",
    "opened",
    "read_header",
    "to_rgb",
    "upright",
]

LARGEST_PIXELS = 100_000_000
"""Images of more pixels, as stored or as scaled, are skipped: they cost 300 MB each and more."""

# Raster formats whose decoders are inside Pillow. Others run programs (EPS) or claim any bytes at all (TGA).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "QOI")

# Pillow logs what is wrong with a TIFF; unless somebody listens, that would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# An 8-bit image of which no sample is larger is named: it would be an eighth as bright as white at best.
_LARGEST_LABEL = 31

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    nbytes: int
    """Bytes that the decoded and scaled image takes."""
    notes: tuple[str, ...]
    """What has to be converted, in words; empty for a plain RGB image."""


def read_header(stream: BinaryIO, conversion: Conversion) -> Header:
    """Say how large an image is once it is converted, and what has to be converted.

    Pixels are decoded only where their samples may not fill their range: of more than 8 bits a sample, and of
    greyscale files that may be label masks, where that takes little time.

    Args:
        stream: the file's bytes, at their start.
        conversion: what it will be converted to.

    Returns:
        Its size in memory and what it needs.

    Raises:
        NotAnImageError: if its first bytes are those of no image format.
        Rejected: if it is damaged or too large.
    """
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with opened(stream) as image:
        width, height = conversion.target(*image.size)
        if width * height > LARGEST_PIXELS:
            key = "resize" if conversion.resize > conversion.crop else "crop"
            what = f"{width} x {height} pixels once scaled to {key} {getattr(conversion, key)}"
            raise _too_large(what, f"lower the {key}")
        notes = list(_notes(image))
        if min(width, height) > min(image.size):
            notes.append(f"enlarged from {image.size[0]} x {image.size[1]}")
        if is_deep(image):
            notes += depth_notes(image, conversion.white_level)
        elif _is_quick_greyscale(image, length):
            notes += _mask_notes(image)
        return Header(nbytes=width * height * 3, notes=tuple(notes))


@contextmanager
def opened(stream: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Open an image of a known format and a bearable size; its pixels are not decoded yet.

    Args:
        stream: the file's bytes, at their start.

    Yields:
        The image. Whatever Pillow raises as long as it is open becomes a `Rejected`.

    Raises:
        NotAnImageError: if its first bytes are those of no image format.
        Rejected: if it is damaged or too large.
    """
    _mute_pillow()
    libtiff.listen()
    try:
        with Image.open(_Bounded(stream), formats=_formats()) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise _too_large(f"{image.width} x {image.height} pixels")
            refuse_unknown_ranges(image)
            yield image
        if error := libtiff.error_since():
            raise Rejected(f"damaged (an error in {error})")
    except Rejected:
        raise
    except UnidentifiedImageError:
        raise NotAnImageError(_why_unidentified(stream)) from None
    except Image.DecompressionBombError:
        raise _too_large("more pixels") from None
    except Exception as error:
        kind = "cannot be read" if isinstance(error, OSError) and error.errno else "damaged"
        raise Rejected(f"{kind} ({_one_line(error)})") from None


def to_rgb(image: ImageFile.ImageFile, white_level: int = 0) -> Image.Image:
    """Load an image and convert it to RGB, opaque, of 8 bits.

    Args:
        image: as opened; its pixels are not loaded yet.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the largest.

    Raises:
        Rejected: if its samples cannot be converted to 8 bits.

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO()
        >>> Image.new("LA", (1, 1), (0, 51)).save(file, "PNG")  # a fifth of black, over white
        >>> with opened(file) as image:
        ...     to_rgb(image).getpixel((0, 0))
        (204, 204, 204)
    """
    if is_deep(image):
        eight = to_eight_bits(image, white_level)
    else:
        image.load()
        eight = image
    if eight.mode == "CMYK" and image.format in {"JPEG", "MPO"} and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for Adobe's, who store ink inverted; one without their marker is not.
        return ImageChops.invert(eight).convert("RGB")
    if not _has_transparency(eight):
        return eight if eight.mode == "RGB" else eight.convert("RGB")
    opaque = eight.convert("RGBA")
    white = Image.new("RGBA", opaque.size, "white")
    return Image.alpha_composite(white, opaque).convert("RGB")


def upright(rgb: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Turn pixels as the EXIF data say of the image that they come from, which has to be loaded by now.

    Before, the data may say otherwise: Pillow turns TIFF files itself while it loads them, and drops the tag.
    """
    turn = _UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def is_upright(image: Image.Image) -> bool:
    """Tell whether `upright` would leave an image as it is."""
    return _orientation(image) not in _UPRIGHT


class _Bounded:
    """A file of which no more is asked than it holds: Python takes memory for what is asked.

    A damaged file may claim a part of any length.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = stream.seek(0, os.SEEK_END)
        stream.seek(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or what is left."""
        left = max(0, self._end - self._stream.tell())
        return self._stream.read(left if size < 0 else min(size, left))


@cache
def _formats() -> tuple[str, ...]:
    """Return those of the formats that this build of Pillow reads: `Image.open` fails on the others."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _mute_pillow() -> None:
    """Let no warning of Pillow's about a user's file (corrupt EXIF, large size) escape.

    `warnings.catch_warnings` is not safe in threads, and files are decoded in several; so this puts one
    filter, for Pillow's own modules, in front and leaves it there. It is looked for each time because others
    may swap the list.
    """
    ours = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)
    if ours not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def _why_unidentified(stream: BinaryIO) -> str:
    """Say why Pillow opens a file as none of the formats: it drops what their plugins raise."""
    stream.seek(0)
    head = stream.read(16)
    for name in _formats():
        plugin, accepts = Image.OPEN[name]
        if accepts is not None and accepts(head) is True:
            stream.seek(0)
            try:
                plugin(cast("BinaryIO", _Bounded(stream)), "")
            except Exception as error:
                return f"{name} data that Pillow cannot read ({_one_line(error)})"
    return "holds no image of a known format"


def _too_large(what: str, remedy: str = "use smaller images") -> Rejected:
    return Rejected(f"{what}: the limit is {LARGEST_PIXELS // 1_000_000} megapixels", remedy, skipped=True)


def _one_line(error: Exception) -> str:
    """Return the text of an error of Pillow's without its class, which says little."""
    if isinstance(error, OSError) and error.errno:
        return reason_of(error)
    text = " ".join(str(error).split())
    return text[:120] if text.isprintable() and text else type(error).__name__


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or it cannot be read."""
    try:
        # The base class' method: that of PNG files decodes the whole file to look behind its pixels.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _notes(image: ImageFile.ImageFile) -> Iterator[str]:
    """Say what decoding will have to convert."""
    kinds = {"1": "greyscale", "L": "greyscale", "LA": "greyscale", "P": "palette", "PA": "palette"}
    if image.mode in kinds:
        yield kinds[image.mode]
    elif image.mode.startswith("I"):
        yield "greyscale"
    elif image.mode not in {"RGB", "RGBA", "RGBX"}:
        yield image.mode
    if _has_transparency(image):
        yield "transparency, laid over white"
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        yield f"turned upright from EXIF orientation {orientation}"
    if getattr(image, "is_animated", False):
        yield "first of several frames"


def _is_quick_greyscale(image: ImageFile.ImageFile, length: int) -> bool:
    """Tell whether a file of so many bytes may be a label mask, and is decoded quickly.

    It is quick if it is not compressed, or to less than a quarter: as masks are, and hardly any photograph.
    """
    if image.mode != "L" or image.format not in {"PNG", "TIFF", "BMP", "PPM"}:
        return False
    return image.tile[0][0] == "raw" or 4 * length < image.width * image.height


def _mask_notes(image: ImageFile.ImageFile) -> Iterator[str]:
    """Name a suspicion of an 8-bit greyscale image; this loads its pixels."""
    largest = int(np.asarray(image).max())
    if 0 < largest <= _LARGEST_LABEL:
        yield f"no sample exceeds {largest} of 255, as in a label mask"


def _has_transparency(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}
