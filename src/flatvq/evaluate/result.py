"""The results of an evaluation of a split.

Axes: H W rows and columns, h w a level's grid, D code dim, K codes, Q indices of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from flatvq.evaluate.fidelity import psnr_of_mean_mse
from flatvq.quantize import CodeUsage

__all__ = ["Evaluation", "LevelEvaluation", "Sample", "mean_over_all"]


@dataclass(frozen=True)
class LevelEvaluation:
    """Statistics of one level over a split."""

    grid: tuple[int, int] | None
    """Rows and columns of the grid of indices; None if the images differ in size."""
    code_dim: int
    """D."""
    indices_per_cell: int
    """Q."""
    usage: CodeUsage
    """Usage of the codebook, from the histogram over the split."""
    quantization_error: float
    """E|z - e|^2 / Var(z) over the split, which is independent of the scale of z."""
    counts: tuple[int, ...]
    """Histogram of the indices over the split, [K]; for Q codebooks, their histograms one after the other, [Q
    K]."""
    others: dict[str, float]
    """The metrics that other packages compute, by key."""

    def to_dict(self) -> dict[str, Any]:
        """Return the object of this level in `metrics.json`."""
        usage = asdict(self.usage)
        return {
            "grid": self.grid,
            "code_dim": self.code_dim,
            "indices_per_cell": self.indices_per_cell,
            **usage,
            "quantization_error": self.quantization_error,
            **self.others,
        }


@dataclass(frozen=True)
class Sample:
    """An image and its reconstruction, uint8 [H, W, 3]; [H, W] for a one-channel model."""

    name: str
    original: np.ndarray[Any, np.dtype[np.uint8]]
    reconstruction: np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation of a split."""

    names: tuple[str, ...]
    """The names of the images, in order."""
    psnr_db: tuple[float, ...]
    """PSNR of each image, in dB."""
    ssim: tuple[float | None, ...]
    """Of each image; None if the image is too small."""
    mse: tuple[float, ...]
    """MSE of each image, on the [0, 1] scale."""
    ms_ssim: tuple[float | None, ...]
    """Of each image; None if the image is too small."""
    bits: tuple[float, ...]
    """Nominal bits of each image: the sum of h x w x Q x log2 K over the levels."""
    pixels: tuple[int, ...]
    """H x W of each image."""
    levels: tuple[LevelEvaluation, ...]
    """From the bottom to the top."""
    samples: tuple[Sample, ...]
    """The requested images and their reconstructions."""
    others: dict[str, tuple[float, ...]]
    """The metrics that other packages compute, of each image, by key."""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics of `metrics.json` (docs/records.md)."""
        errors = torch.tensor(self.mse, dtype=torch.float64, device="cpu")
        effective = sum(sum(level.counts) * level.usage.effective_bits for level in self.levels)
        return {
            "images": len(self.names),
            "psnr_db": float(np.mean(self.psnr_db)),
            "psnr_of_mean_mse_db": psnr_of_mean_mse(errors, data_range=1.0),
            "mse": float(errors.mean()),
            "ssim": mean_over_all(self.ssim),
            "ms_ssim": mean_over_all(self.ms_ssim),
            "bits_per_image": float(np.mean(self.bits)),
            "bits_per_pixel": sum(self.bits) / sum(self.pixels),
            "effective_bits_per_image": effective / len(self.names),
            **{key: float(np.mean(values)) for key, values in self.others.items()},
            "levels": [level.to_dict() for level in self.levels],
        }


def mean_over_all(values: Sequence[float | None]) -> float | None:
    """Return the mean over all images; None if an image has no value, because partial means are misleading.

    Args:
        values: the value of each image, or None.
    """
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None
