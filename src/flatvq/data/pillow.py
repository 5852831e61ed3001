"""Open image files with Pillow, including malicious ones, and convert them to RGB.

No other module opens files with Pillow. Its plugins may raise almost any exception on a damaged file; all of
them become `Rejected`.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, cast

from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from flatvq.data import libtiff
from flatvq.data.conversion import LARGEST_PIXELS, NotAnImageError, Rejected, too_large
from flatvq.data.depth import is_deep, refuse_unknown_ranges, to_eight_bits
from flatvq.data.reasons import reason_of

__all__ = ["has_transparency", "opened", "to_rgb"]

_BAND_PIXELS = 2**20

# Raster formats that Pillow decodes itself. Others run programs (EPS) or accept arbitrary bytes (TGA).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "QOI")

# Pillow logs problems of TIFF files. Without a handler, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def opened(stream: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Open an image of a supported format and size, without decoding its pixels.

    Args:
        stream: the file's bytes, at their start.

    Yields:
        The image. Any exception that the block raises becomes a `Rejected`.

    Raises:
        NotAnImageError: if the first bytes match no supported image format.
        Rejected: if the image is damaged or too large.
    """
    _mute_pillow()
    libtiff.listen()
    try:
        with Image.open(_Bounded(stream), formats=_formats()) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise too_large(f"{image.width} x {image.height} pixels")
            refuse_unknown_ranges(image)
            yield image
        if error := libtiff.error_since():
            raise Rejected(f"damaged (an error in {error})")
    except Rejected:
        raise
    except UnidentifiedImageError:
        raise NotAnImageError(_why_unidentified(stream)) from None
    except Image.DecompressionBombError:
        raise too_large("more pixels") from None
    except Exception as error:
        kind = "cannot be read" if isinstance(error, OSError) and error.errno else "damaged"
        raise Rejected(f"{kind} ({_message_of(error)})") from None


def to_rgb(image: ImageFile.ImageFile, white_level: int = 0) -> Image.Image:
    """Load an image and convert it to opaque 8-bit RGB.

    Args:
        image: an image from `opened`, whose pixels are not loaded yet.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.

    Raises:
        Rejected: if the samples cannot be converted to 8 bits.

    Example:
        >>> from io import BytesIO
        >>> file = BytesIO()
        >>> Image.new("LA", (1, 1), (0, 51)).save(file, "PNG")  # black of opacity 0.2, over white
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
        # Pillow treats every CMYK JPEG as one of Adobe's, which store inverted ink. Without Adobe's marker,
        # ink is not inverted.
        return ImageChops.invert(eight).convert("RGB")
    if not has_transparency(eight):
        return eight if eight.mode == "RGB" else eight.convert("RGB")
    return _over_white(eight)


def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image with transparency over white, in bands of rows, because it takes several copies."""
    result = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        result.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return result


class _Bounded:
    """A file that limits reads to its length.

    A damaged file may claim a chunk of any length, and Python would allocate memory for all of it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = stream.seek(0, os.SEEK_END)
        stream.seek(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; all remaining bytes if it is negative."""
        remaining = max(0, self._end - self._stream.tell())
        return self._stream.read(remaining if size < 0 else min(size, remaining))


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of Pillow supports: `Image.open` fails if it is given others."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _mute_pillow() -> None:
    """Ignore Pillow's warnings about a file, such as corrupt EXIF data or a large size.

    Files are decoded in several threads, in which `warnings.catch_warnings` is not safe. A permanent filter
    for Pillow's modules is installed instead. It is checked each time because other code may replace the
    filters.
    """
    ignore_pillow = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)
    if ignore_pillow not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def _why_unidentified(stream: BinaryIO) -> str:
    """Return why Pillow does not open a file. Pillow itself discards the exceptions of its plugins."""
    stream.seek(0)
    head = stream.read(16)
    for name in _formats():
        plugin, accepts = Image.OPEN[name]
        if accepts is not None and accepts(head) is True:
            stream.seek(0)
            try:
                plugin(cast("BinaryIO", _Bounded(stream)), "")
            except Exception as error:
                return f"{name} data that Pillow cannot read ({_message_of(error)})"
    return "holds no image of a known format"


def _message_of(error: Exception) -> str:
    """Return the text of an error of Pillow without its class, which is rarely informative."""
    if isinstance(error, OSError) and error.errno:
        return reason_of(error)
    text = " ".join(str(error).split())
    return text[:120] if text.isprintable() and text else type(error).__name__


def has_transparency(image: Image.Image) -> bool:
    """Return whether an image has an alpha channel or a transparent colour."""
    return "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}
