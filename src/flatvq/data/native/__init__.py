"""Compiled code: decode a region of a JPEG with the libjpeg that Pillow is linked to.

Pillow and other Python libraries decode whole images only. Training crops need a region, and the pixels
outside of it need not be transformed. The code is compiled when flatvq is installed, if there is a C++
compiler. Without it, or if Pillow has an unsupported libjpeg, Pillow decodes whole images.
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

# The oldest version of libjpeg-turbo that was tested.
_MIN_VERSION = [2, 1, 5]


def can_decode_parts() -> bool:
    """Return whether `decode_part` is available. `FLATVQ_NATIVE=0` in the environment disables it."""
    return _LOADED is not None


def decode_part(file: bytes, size: tuple[int, int], region: Region) -> Pixels | None:
    """Decode a region of a JPEG of three colours or greyscale, with exactly the pixels that Pillow decodes.

    Args:
        file: the bytes of the file.
        size: width and height in pixels, for which memory is allocated. The file may claim another size.
        region: a region inside the image.

    Returns:
        uint8 [H, W, 3] of the whole image, undefined outside of the region; None if the file is damaged
        anywhere, or is not a JPEG of this kind and size.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (500, 375), "grey").save(file, "JPEG")
        >>> if can_decode_parts():
        ...     decode_part(file.getvalue(), (500, 375), Region(90, 100, 64, 64))[90, 100].tolist()
        [128, 128, 128]
    """
    assert _LOADED is not None, "check can_decode_parts() first"
    library, libjpeg = _LOADED
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    bounds = region.top, region.left, region.height, region.width
    decoded = library.flatvq_jpeg_part(libjpeg, file, len(file), height, width, *bounds, pixels.ctypes.data)
    return pixels if decoded else None


def _load() -> tuple[ctypes.CDLL, int] | None:
    """Return the compiled library and the address of its libjpeg functions; None if unavailable."""
    from PIL import _imaging

    version = features.version("libjpeg_turbo") or "0"
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    if os.environ.get("FLATVQ_NATIVE") == "0" or numbers < _MIN_VERSION:
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
