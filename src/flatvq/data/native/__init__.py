"""What is compiled: decoding a part of a JPEG, by the libjpeg that Pillow was linked to.

Pillow and other libraries for Python decode whole images only, but training crops are cut from a part; what
lies outside of it need not be transformed. It is built when flatvq is installed, where there is a C++
compiler; without it, or where Pillow has another libjpeg, whole images are decoded by Pillow.
"""

from __future__ import annotations

import ctypes
import os
import re
import sysconfig
from pathlib import Path

import numpy as np
from PIL import features

from flatvq.data.types import Pixels, Region

__all__ = ["can_decode_parts", "decode_part"]

_LIBRARY = Path(__file__).parent / f"_part{sysconfig.get_config_var('EXT_SUFFIX')}"

# The first version of libjpeg-turbo that this was tried with.
_SINCE = [2, 1, 5]


def can_decode_parts() -> bool:
    """Tell whether parts can be decoded here; `FLATVQ_NATIVE=0` in the environment turns it off."""
    return _LOADED is not None


def decode_part(file: bytes, size: tuple[int, int], part: Region) -> Pixels | None:
    """Decode a part of a JPEG, of three colours or grey, exactly as Pillow does, to its place in the image.

    Args:
        file: its bytes.
        size: width and height in pixels; memory for that many is taken, whatever the file may claim.
        part: what is wanted, inside of the image.

    Returns:
        uint8 [H, W, 3], which mean nothing outside of the part; None if the file is damaged, there or
        elsewhere, or it is not a JPEG of this kind and size.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (500, 375), "grey").save(file, "JPEG")
        >>> if can_decode_parts():
        ...     decode_part(file.getvalue(), (500, 375), Region(90, 100, 64, 64))[90, 100].tolist()
        [128, 128, 128]
    """
    assert _LOADED is not None, "ask can_decode_parts() first"
    library, libjpeg = _LOADED
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    place = part.top, part.left, part.height, part.width
    whole = library.flatvq_jpeg_part(libjpeg, file, len(file), height, width, *place, pixels.ctypes.data)
    return pixels if whole else None


def _load() -> tuple[ctypes.CDLL, int] | None:
    """Return what is compiled, and where it found libjpeg's functions."""
    from PIL import _imaging

    version = features.version("libjpeg_turbo") or "0"
    if os.environ.get("FLATVQ_NATIVE") == "0" or [int(part) for part in re.findall(r"\d+", version)] < _SINCE:
        return None
    try:
        library, pillow = ctypes.CDLL(str(_LIBRARY)), ctypes.CDLL(_imaging.__file__)
    except OSError:
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    library.flatvq_libjpeg.argtypes, library.flatvq_libjpeg.restype = [address], address
    library.flatvq_jpeg_part.argtypes = [address, ctypes.c_char_p, *[number] * 7, address]
    libjpeg = library.flatvq_libjpeg(pillow._handle)
    return (library, libjpeg) if libjpeg else None


_LOADED = _load()
