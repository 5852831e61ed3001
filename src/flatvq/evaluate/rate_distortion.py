"""Rate and distortion of an image codec over fixed qualities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

import numpy as np
import torch

from flatvq.data.types import Pixels
from flatvq.evaluate import fidelity
from flatvq.evaluate.image_codecs import Files, ImageCodec

__all__ = ["QUALITIES", "Curve", "bits_at_psnr", "psnr_of"]

QUALITIES = (5, 15, 30, 45, 60, 75, 85, 95)
"""The qualities of a curve."""


@dataclass
class Curve:
    """The sums of a codec's files at each of `QUALITIES`."""

    codec: ImageCodec
    _bytes: dict[int, int] = field(default_factory=lambda: dict.fromkeys(QUALITIES, 0))
    _psnr: dict[int, list[float]] = field(default_factory=lambda: {quality: [] for quality in QUALITIES})
    _pixels: int = 0

    def add(self, files: Files, original: Pixels) -> None:
        """Add an image.

        Args:
            files: its files.
            original: uint8 [H, W, C].
        """
        self._pixels += original.shape[0] * original.shape[1]
        for quality in QUALITIES:
            content = files.at(quality)
            self._bytes[quality] += len(content)
            self._psnr[quality].append(psnr_of(self.codec.decode(content, original.shape[2]), original))

    def points(self) -> list[dict[str, Any]]:
        """Return `quality`, `bits_per_pixel` of all images together and the mean `psnr_db` of each point."""
        return [
            {
                "quality": quality,
                "bits_per_pixel": 8 * self._bytes[quality] / self._pixels,
                "psnr_db": float(np.mean(self._psnr[quality])),
            }
            for quality in QUALITIES
        ]


def psnr_of(stored: Pixels, original: Pixels) -> float:
    """Return the PSNR of a reconstruction in dB, both uint8 [H, W, C]."""
    pair = (torch.from_numpy(image)[None].double() / 255 for image in (stored, original))
    return float(fidelity.psnr(*pair, data_range=1.0))


def bits_at_psnr(points: Iterable[dict[str, Any]], psnr_db: float) -> float | None:
    """Return the bits per pixel at which a curve reaches a PSNR.

    Args:
        points: the points of the curve. Between them, the logarithm of the rate is a monotone cubic function
            of the PSNR, as in the Bjøntegaard rate.
        psnr_db: the PSNR.

    Returns:
        The bits per pixel; None if the curve does not reach the PSNR, or starts above it.

    Example:
        >>> curve = [{"bits_per_pixel": 0.1 * 4**n, "psnr_db": 20.0 + 10 * n} for n in range(2)]
        >>> round(bits_at_psnr(curve, 25.0), 9), bits_at_psnr(curve, 31.0)
        (0.2, None)
    """
    # Qualities with equal PSNR, as for a flat image, count once.
    rates = {point["psnr_db"]: log(point["bits_per_pixel"]) for point in points}
    heights = sorted(rates)
    if len(heights) < 2 or not heights[0] <= psnr_db <= heights[-1]:
        return None
    from scipy.interpolate import PchipInterpolator

    return exp(float(PchipInterpolator(heights, [rates[height] for height in heights])(psnr_db)))
