"""The one place that opens files with Pillow: hostile ones too; say what they hold, and make them RGB.

Pillow's plugins raise nearly any exception on a damaged file, so whatever they raise becomes a `Rejected`.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

__all__ = [
    "LARGEST_PIXELS",
    "Header",
    "NotAnImageError",
    "Rejected",
    "Sizing",
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


class Rejected(Exception):  # noqa: N818  (a verdict on a file, not an error of the program)
    """A file cannot or will not be used; `skipped` tells the second from the first."""

    def __init__(self, reason: str, *, skipped: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.skipped = skipped


class NotAnImageError(Rejected):
    """The first bytes are those of no image format that is read here."""


@dataclass(frozen=True)
class Sizing:
    """To what size images are scaled before crops are cut.

    Example:
        >>> Sizing(crop=64, resize=0).target(500, 375)
        (500, 375)
        >>> Sizing(crop=64, resize=256).target(500, 375)
        (341, 256)
        >>> Sizing(crop=64, resize=0).target(16, 32)  # enlarged, to hold a crop
        (64, 128)
    """

    crop: int
    """Pixels of the side of a crop, the least that the shorter side may have."""
    resize: int
    """Pixels of the shorter side; 0 keeps an image's own."""

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image of the given ones is scaled to."""
        own = min(width, height)
        shorter = max(self.resize or own, self.crop)
        return round(width * shorter / own), round(height * shorter / own)


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    nbytes: int
    """Bytes that the decoded and scaled image takes."""
    notes: tuple[str, ...]
    """What has to be converted, in words; empty for a plain RGB image."""


def read_header(stream: BinaryIO, sizing: Sizing) -> Header:
    """Look at an image without decoding its pixels.

    Args:
        stream: the file's bytes, at their start.
        sizing: what it will be scaled to.

    Returns:
        Its size in memory and what it needs.

    Raises:
        NotAnImageError: if its first bytes are those of no image format.
        Rejected: if it is damaged or too large.
    """
    with opened(stream) as image:
        width, height = sizing.target(*image.size)
        if width * height > LARGEST_PIXELS:
            raise _too_large(f"{width} x {height} pixels once scaled to the crop")
        notes = list(_notes(image))
        if min(width, height) > min(image.size):
            notes.append(f"enlarged from {image.size[0]} x {image.size[1]}")
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
    try:
        with Image.open(stream, formats=_formats()) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise _too_large(f"{image.width} x {image.height} pixels")
            yield image
    except Rejected:
        raise
    except UnidentifiedImageError:
        raise NotAnImageError("holds no image of a known format") from None
    except Image.DecompressionBombError:
        raise _too_large("more pixels") from None
    except Exception as error:
        raise Rejected(f"damaged ({_one_line(error)})") from None


def to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Load an image and convert it to RGB, opaque, of 8 bits.

    Raises:
        Rejected: if nothing says what its samples mean.

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO()
        >>> Image.new("LA", (1, 1), (0, 51)).save(file, "PNG")  # a fifth of black, over white
        >>> with opened(file) as image:
        ...     to_rgb(image).getpixel((0, 0))
        (204, 204, 204)
    """
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return _high_byte(image).convert("RGB")
    if image.mode == "CMYK" and image.format in {"JPEG", "MPO"} and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for Adobe's, who store ink inverted; one without their marker is not.
        return ImageChops.invert(image).convert("RGB")
    if not _has_transparency(image):
        return image if image.mode == "RGB" else image.convert("RGB")
    opaque = image.convert("RGBA")
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


def _too_large(what: str) -> Rejected:
    return Rejected(f"{what}: the limit is {LARGEST_PIXELS // 1_000_000} megapixels", skipped=True)


def _one_line(error: Exception) -> str:
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
    # Pillow says RGB of 16-bit colour; only the raw mode of its first tile tells.
    if image.mode.startswith("I") or ";16" in str(image.tile):
        yield "16 bits a sample"
    if _has_transparency(image):
        yield "transparency, laid over white"
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        yield f"turned upright from EXIF orientation {orientation}"
    if getattr(image, "is_animated", False):
        yield "first of several frames"


def _has_transparency(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}


def _high_byte(image: ImageFile.ImageFile) -> Image.Image:
    """Take the high byte of 16-bit grey, as Pillow does for 16-bit colour."""
    if not image.mode.startswith("I;16") and image.format not in {"PNG", "PPM"}:
        raise Rejected(f"32-bit samples (mode {image.mode}) have no known white")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
