"""Open image files with Pillow, including malicious ones, describe them and convert them to RGB.

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
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from flatvq.data import libtiff
from flatvq.data.conversion import Conversion, NotAnImageError, Rejected
from flatvq.data.depth import depth_notes, is_deep, refuse_unknown_ranges, to_eight_bits
from flatvq.data.ranges import from_start, png_chunks
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
"""Images of more pixels, as stored or after scaling, are skipped: each takes more than 300 MB."""

# Raster formats that Pillow decodes itself. Others run programs (EPS) or accept arbitrary bytes (TGA).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "QOI")

# Pillow logs problems of TIFF files. Without a handler, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# An 8-bit greyscale image without a larger sample may be a label mask: it is at most an eighth as bright as
# white.
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
_TRANSPOSED = {5, 6, 7, 8}  # exchange rows and columns


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
        if width * height > LARGEST_PIXELS:
            key = "resize" if conversion.resize > conversion.crop else "crop"
            what = f"{width} x {height} pixels once scaled to {key} {getattr(conversion, key)}"
            raise _too_large(what, f"lower the {key}")
        notes = list(_notes(image))
        if min(width, height) > min(image.size):
            notes.append(f"enlarged from {image.size[0]} x {image.size[1]}")
        width, height = conversion.target(*_upright_size(image))
        size_is_certain = not _may_change_on_loading(image)
        if is_deep(image):
            notes += depth_notes(image, conversion.white_level)
        elif _is_quick_greyscale(image, file_bytes):
            notes += _mask_notes(image)
    if not size_is_certain:
        width, height = conversion.target(*_loaded_size(stream))
    return Header(height, width, tuple(notes))


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
    if not _has_transparency(eight):
        return eight if eight.mode == "RGB" else eight.convert("RGB")
    opaque = eight.convert("RGBA")
    white = Image.new("RGBA", opaque.size, "white")
    return Image.alpha_composite(white, opaque).convert("RGB")


def upright(rgb: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Transpose pixels as the EXIF orientation of their image requires.

    Args:
        rgb: the pixels.
        image: the image that they come from. It must be loaded: Pillow transposes TIFF files while it loads
            them and then drops the orientation.
    """
    method = _UPRIGHT.get(_orientation(image))
    return rgb if method is None else rgb.transpose(method)


def is_upright(image: Image.Image) -> bool:
    """Return whether `upright` would not change an image."""
    return _orientation(image) not in _UPRIGHT


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


def _too_large(what: str, remedy: str = "use smaller images") -> Rejected:
    return Rejected(f"{what}: the limit is {LARGEST_PIXELS // 1_000_000} megapixels", remedy, skipped=True)


def _message_of(error: Exception) -> str:
    """Return the text of an error of Pillow without its class, which is rarely informative."""
    if isinstance(error, OSError) and error.errno:
        return reason_of(error)
    text = " ".join(str(error).split())
    return text[:120] if text.isprintable() and text else type(error).__name__


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none or it cannot be read."""
    try:
        # The method of the base class: that of PNG files decodes the whole file to read EXIF data at its end.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _notes(image: ImageFile.ImageFile) -> Iterator[str]:
    """Describe the conversions that an image needs."""
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
        return _upright_size(image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that `upright` gives an image."""
    width, height = image.size
    return (height, width) if _orientation(image) in _TRANSPOSED else (width, height)


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


def _has_transparency(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}
