"""Plain JPEGs through libjpeg-turbo alone: Pillow's very pixels, without what Pillow does around it."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import ImageFile

from flatvq.data.pillow import is_upright
from flatvq.data.sets import Pixels

__all__ = ["decode_plain"]


def decode_plain(stream: BinaryIO, image: ImageFile.ImageFile) -> Pixels | None:
    """Decode a JPEG of three colours that stands upright, in full.

    Both decode by libjpeg-turbo with its exact transform and smooth chroma, so the pixels are Pillow's bit by
    bit; what is spared is Pillow's reading in pieces and its padding of each pixel to 4 bytes.

    Args:
        stream: the file's bytes.
        image: the file as Pillow opened it; its pixels are not loaded.

    Returns:
        uint8 [H, W, 3]; None if Pillow has to do it, because the file is of another kind, or because it is
        damaged, of which Pillow says more.
    """
    if image.format != "JPEG" or image.mode != "RGB" or not is_upright(image):
        return None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    stream.seek(0)
    try:
        # Into memory of the size that Pillow saw and bounded, whatever else a crafted file may claim.
        found = simplejpeg.decode_jpeg(stream.read(), "RGB", buffer=pixels)
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None
