"""Pictures of the page: error images of reconstructions, and data URIs within a size budget."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flatvq.data.conversion import Rejected
from flatvq.data.pillow import opened, to_rgb

__all__ = ["Embedded", "amplification", "differences", "embed", "error_picture", "psnr_db", "read_picture"]

Pixels = NDArray[np.uint8]
"""8-bit pixels, [H, W, 3]."""

MAX_PIXELS = 2**24
"""Larger pictures are not read."""
BUDGET = 1_300_000
"""Bytes of all pictures together, before base64 encoding adds a third."""


@dataclass(frozen=True)
class Encoding:
    """A way to encode a picture: a description, the options for Pillow, and the longest side in pixels."""

    description: str
    options: dict[str, Any]
    side: int


ENCODINGS = (
    Encoding("shown without loss", {"lossless": True, "method": 4}, 512),
    Encoding("shown as WebP of quality 90", {"quality": 90, "method": 4}, 512),
    Encoding("scaled to 160 pixels and shown as WebP of quality 80", {"quality": 80, "method": 4}, 160),
    Encoding("scaled to 80 pixels and shown as WebP of quality 60", {"quality": 60, "method": 4}, 80),
)


@dataclass(frozen=True)
class Embedded:
    """Data URIs in the order of the pictures, and a description of their encoding."""

    uris: list[str]
    encoding: str


def read_picture(path: Path) -> Pixels | None:
    """Read a picture as 8-bit [H, W, 3]; return None if it is missing, damaged or too large."""
    try:
        with path.open("rb") as file, opened(file) as image:
            return np.asarray(to_rgb(image)) if image.width * image.height <= MAX_PIXELS else None
    except (OSError, Rejected):
        return None


def differences(original: Pixels, reconstruction: Pixels) -> NDArray[np.float64]:
    """Return the absolute error per pixel, [H, W] in 8-bit levels, averaged over the channels.

    Example:
        >>> black = np.zeros((1, 1, 3), np.uint8)
        >>> differences(black, black + np.array([3, 0, 9], np.uint8)).tolist()
        [[4.0]]
    """
    difference = np.abs(original.astype(np.float64) - reconstruction.astype(np.float64))
    return np.asarray(difference.mean(axis=2))


def psnr_db(original: Pixels, reconstruction: Pixels) -> float | None:
    """Return the peak signal-to-noise ratio in dB; None if the pictures are equal.

    Example:
        >>> grey = np.full((2, 2, 3), 100, np.uint8)
        >>> round(psnr_db(grey, grey + np.uint8(51)), 3)
        13.979
    """
    error = np.mean(((original.astype(np.float64) - reconstruction.astype(np.float64)) / 255.0) ** 2)
    return -10.0 * log10(float(error)) if error > 0 else None


def amplification(errors: Sequence[NDArray[np.float64]]) -> int:
    """Return the largest power of two, up to 32, with which 99 % of the errors stay below white."""
    high = max(1.0, float(np.quantile(np.concatenate([error.ravel() for error in errors]), 0.99)))
    return max(factor for factor in (1, 2, 4, 8, 16, 32) if factor == 1 or factor * high <= 255)


def error_picture(error: NDArray[np.float64], factor: int) -> Pixels:
    """Return the amplified error as greyscale, [H, W]: white is an error of at least 255 / factor."""
    return np.minimum(np.rint(factor * error), 255).astype(np.uint8)


def embed(pictures: Sequence[Pixels], budget: int = BUDGET) -> Embedded:
    """Encode pictures as data URIs, losslessly if they fit the budget.

    Args:
        pictures: colour [H, W, 3] or greyscale [H, W].
        budget: bytes of all pictures together.

    Returns:
        The URIs. All pictures have the same encoding, so that they can be compared.
    """
    for encoding in ENCODINGS:
        files = _files(pictures, encoding, budget)
        if len(files) == len(pictures):
            break
    else:
        files = [_file(picture, encoding) for picture in pictures]
    uris = [f"data:image/webp;base64,{base64.b64encode(file).decode('ascii')}" for file in files]
    return Embedded(uris, encoding.description)


def _files(pictures: Sequence[Pixels], encoding: Encoding, budget: int) -> list[bytes]:
    """Encode pictures until the budget is exceeded."""
    files: list[bytes] = []
    for picture in pictures:
        file = _file(picture, encoding)
        budget -= len(file)
        if budget < 0:
            break
        files.append(file)
    return files


def _file(picture: Pixels, encoding: Encoding) -> bytes:
    image = Image.fromarray(picture)
    if max(image.size) > encoding.side:
        image.thumbnail((encoding.side, encoding.side), Image.Resampling.BICUBIC)
    file = BytesIO()
    image.save(file, format="WEBP", **encoding.options)
    return file.getvalue()
