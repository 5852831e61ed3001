"""Plain JPEGs through libjpeg-turbo alone: Pillow's very pixels, without what Pillow does around it."""

from __future__ import annotations

import numpy as np
import simplejpeg

from flatvq.data.sets import Pixels

__all__ = ["START", "decode_plain", "plain_size"]

START = b"\xff\xd8"
"""The first bytes of a JPEG."""

# The second bytes of markers (ITU-T T.81, table B.1).
_FIRST, _NO_SEGMENT, _SCAN, _ABOUT, _FILL = 0xC0, range(0xD0, 0xDA), 0xDA, 0xE1, 0xFF


def plain_size(file: bytes) -> tuple[int, int] | None:
    """Say how large a JPEG of three colours is that has no EXIF data or XMP, which may turn it.

    It takes a fraction of the time that Pillow takes to open a file.

    Args:
        file: its bytes.

    Returns:
        Width and height in pixels; None if it is a file of another kind, or one on which only Pillow may
        judge.

    Example:
        >>> pixels = np.full((2, 3, 3), 128, np.uint8)
        >>> plain_size(simplejpeg.encode_jpeg(pixels)), plain_size(b"no JPEG")
        ((3, 2), None)
    """
    if not _starts_plainly(file):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(file)
    except ValueError:
        return None
    return (width, height) if colours in {"YCbCr", "RGB"} else None


def decode_plain(file: bytes, size: tuple[int, int]) -> Pixels | None:
    """Decode a JPEG of three colours in full, as it lies.

    Both decode by libjpeg-turbo with its exact transform and smooth chroma, so the pixels are Pillow's bit by
    bit; what is spared is Pillow's reading in pieces and its padding of each pixel to 4 bytes.

    Args:
        file: its bytes.
        size: width and height in pixels, as whoever bounds them saw them.

    Returns:
        uint8 [H, W, 3]; None if Pillow has to do it because the file is damaged, of which Pillow says more.

    Example:
        >>> file = simplejpeg.encode_jpeg(np.full((2, 3, 3), 128, np.uint8))
        >>> decode_plain(file, (3, 2)).shape, decode_plain(file[:-9], (3, 2))
        ((2, 3, 3), None)
    """
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        # Into memory of the size that was bounded, whatever else a crafted file may claim.
        found = simplejpeg.decode_jpeg(file, "RGB", buffer=pixels)
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None


def _starts_plainly(file: bytes) -> bool:
    """Tell whether a file is a JPEG whose segments follow one another, and none may hold EXIF or XMP."""
    if not file.startswith(START):
        return False
    place = len(START)
    while file[place : place + 1] == b"\xff" and place + 4 <= len(file):
        kind = file[place + 1]
        if kind == _SCAN:
            return True
        if kind < _FIRST or kind in _NO_SEGMENT or kind in (_ABOUT, _FILL):
            return False
        place += 2 + int.from_bytes(file[place + 2 : place + 4], "big")
    return False
