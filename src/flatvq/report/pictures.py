"""Pictures inside the page: what a reconstruction got wrong, and data URIs that stay within a budget."""

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
"""[H, W, 3] levels of 8 bits."""

LARGEST = 2**24
"""Pixels of a picture; no larger one is read."""
BUDGET = 1_300_000
"""Bytes of all pictures together, before base64 adds a third."""


@dataclass(frozen=True)
class Rung:
    """A way to write a picture: in words, for Pillow, and the longest side in pixels."""

    words: str
    options: dict[str, Any]
    side: int


LADDER = (
    Rung("shown without loss", {"lossless": True, "method": 4}, 512),
    Rung("shown as WebP of quality 90", {"quality": 90, "method": 4}, 512),
    Rung("scaled to 160 pixels, as WebP of quality 80", {"quality": 80, "method": 4}, 160),
    Rung("scaled to 80 pixels, as WebP of quality 60", {"quality": 60, "method": 4}, 80),
)


@dataclass(frozen=True)
class Embedded:
    """Data URIs in the order of the pictures, and how they were written."""

    uris: list[str]
    words: str


def read_picture(path: Path) -> Pixels | None:
    """Read a picture as [H, W, 3] of 8 bits; None where there is none that can be read and shown."""
    try:
        with path.open("rb") as file, opened(file) as image:
            return np.asarray(to_rgb(image)) if image.width * image.height <= LARGEST else None
    except (OSError, Rejected):
        return None


def differences(original: Pixels, reconstruction: Pixels) -> NDArray[np.float64]:
    """Return the absolute error per pixel, [H, W] in 8-bit levels, averaged over the colours.

    Example:
        >>> black = np.zeros((1, 1, 3), np.uint8)
        >>> differences(black, black + np.array([3, 0, 9], np.uint8)).tolist()
        [[4.0]]
    """
    difference = np.abs(original.astype(np.float64) - reconstruction.astype(np.float64))
    return np.asarray(difference.mean(axis=2))


def psnr_db(original: Pixels, reconstruction: Pixels) -> float | None:
    """Return the peak signal-to-noise ratio; None where the pictures are equal.

    Example:
        >>> grey = np.full((2, 2, 3), 100, np.uint8)
        >>> round(psnr_db(grey, grey + np.uint8(51)), 3)
        13.979
    """
    error = np.mean(((original.astype(np.float64) - reconstruction.astype(np.float64)) / 255.0) ** 2)
    return -10.0 * log10(float(error)) if error > 0 else None


def amplification(errors: Sequence[NDArray[np.float64]]) -> int:
    """Return the largest power of two, up to 32, that leaves 99 % of the errors below white."""
    high = max(1.0, float(np.quantile(np.concatenate([error.ravel() for error in errors]), 0.99)))
    return max(factor for factor in (1, 2, 4, 8, 16, 32) if factor == 1 or factor * high <= 255)


def error_picture(error: NDArray[np.float64], factor: int) -> Pixels:
    """Return the error as a grey picture, [H, W]: black is none, white is 255 / factor levels or more."""
    return np.minimum(np.rint(factor * error), 255).astype(np.uint8)


def embed(pictures: Sequence[Pixels], budget: int = BUDGET) -> Embedded:
    """Write pictures as data URIs, without loss if they fit the budget.

    Args:
        pictures: colour [H, W, 3] or grey [H, W].
        budget: bytes of all of them together.

    Returns:
        The URIs; all pictures are written in the same way, so that none looks worse for its encoding.
    """
    for rung in LADDER:
        files = _files(pictures, rung, budget)
        if len(files) == len(pictures):
            break
    else:
        files = [_file(picture, rung) for picture in pictures]
    uris = [f"data:image/webp;base64,{base64.b64encode(file).decode('ascii')}" for file in files]
    return Embedded(uris, rung.words)


def _files(pictures: Sequence[Pixels], rung: Rung, budget: int) -> list[bytes]:
    """Write pictures until one no longer fits the budget."""
    files: list[bytes] = []
    for picture in pictures:
        file = _file(picture, rung)
        budget -= len(file)
        if budget < 0:
            break
        files.append(file)
    return files


def _file(picture: Pixels, rung: Rung) -> bytes:
    image = Image.fromarray(picture)
    if max(image.size) > rung.side:
        image.thumbnail((rung.side, rung.side), Image.Resampling.BICUBIC)
    file = BytesIO()
    image.save(file, format="WEBP", **rung.options)
    return file.getvalue()
