"""Evaluate a model on a split: fidelity of each image and codebook usage of each level.

Axes: B batch, H W rows and columns, h w a level's grid, D code dim.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.evaluate import fidelity, similarity
from flatvq.evaluate.batches import NamedImage, batches
from flatvq.evaluate.result import Evaluation, LevelEvaluation, Sample
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS, Metric
from flatvq.model import VQVAE
from flatvq.model.mode import eval_mode
from flatvq.model.pixels import with_channels
from flatvq.quantize import Quantized, UsageCounter
from flatvq.quantize.checks import whole_number
from flatvq.recipe import LevelRecipe
from flatvq.shapes import require_axes

__all__ = ["evaluate", "reconstruct"]


class _LevelTally:
    """Running sums of one level."""

    def __init__(self, level: LevelRecipe) -> None:
        self.usage = UsageCounter(level.codebook_size, level.index_shape)
        self.grids: set[tuple[int, int]] = set()
        self.error = 0.0
        self.squares = 0.0
        self.vectors = 0
        self.sum = torch.zeros(level.code_dim, dtype=torch.float64, device="cpu")

    def add(self, level: Quantized) -> None:
        # On the CPU, because not every accelerator supports float64.
        latents, codes = level.latents.cpu().double(), level.code_vectors.cpu().double()
        self.usage.add(level.indices)
        self.grids.add((level.indices.shape[-2], level.indices.shape[-1]))
        self.error += float((latents - codes).square().sum())
        self.squares += float(latents.square().sum())
        self.sum += latents.sum(dim=(0, 2, 3))
        self.vectors += latents[:, 0].numel()

    def summary(self) -> LevelEvaluation:
        variance = self.squares - float(self.sum.square().sum()) / self.vectors
        return LevelEvaluation(
            grid=next(iter(self.grids)) if len(self.grids) == 1 else None,
            code_dim=len(self.sum),
            indices_per_cell=math.prod(self.usage.index_shape),
            usage=self.usage.summary(),
            # If all latents are equal, the error is 0 by definition.
            quantization_error=self.error / variance if variance > 0 else 0.0,
            counts=tuple(self.usage.counts.flatten().tolist()),
            others={
                key: float(metric.compute(self.usage.counts))
                for key, metric in LEVEL_METRICS.items()
                if metric.compute
            },
        )


@torch.no_grad()
def evaluate(
    model: VQVAE,
    images: Iterable[NamedImage],
    *,
    batch_size: int = 64,
    keep: Container[int] = (),
    structure: bool = True,
) -> Evaluation:
    """Reconstruct every image of a split, and measure fidelity, usage and rate.

    The model runs in eval mode and float32, and its mode is restored afterwards. If the sides of an image are
    not multiples of the model's downsampling factor, the image is padded by repeating the last row and
    column; the padding is not measured. A one-channel model is evaluated on the luma of colour images.

    Args:
        model: the tokenizer, on any device.
        images: pairs of a name and uint8 [H, W, 3]; consecutive images of equal size share a batch.
        batch_size: images per forward pass.
        keep: positions of the images to return with their reconstructions.
        structure: whether to compute SSIM, MS-SSIM and the metrics of other packages, which may take longer
            than the model.

    Returns:
        The values of each image and the statistics of each level.

    Raises:
        FlatvqError: if there are no images, or one is not uint8 [H, W, 3].
        NonFiniteError: if the model returns NaN or infinity.
    """
    whole_number("batch_size", batch_size, 1)
    tallies = [_LevelTally(level) for level in model.recipe.levels]
    names: list[str] = []
    columns: dict[str, list[Any]] = {
        key: [] for key in ("psnr_db", "ssim", "mse", "ms_ssim", "bits", "pixels")
    }
    others: dict[str, list[float]] = {
        key: [] for key, metric in TRIAL_METRICS.items() if structure and metric.compute
    }
    samples: list[Sample] = []
    with eval_mode(model):
        for batch_names, colour in batches(images, batch_size):
            original = with_channels(colour, model.recipe.channels)
            stored, levels = reconstruct(model, original)
            for tally, level in zip(tallies, levels, strict=True):
                tally.add(level)
            pair = stored.float().div(255), original.float().div(255)
            _measure(columns, *pair, structure)
            for key, column in others.items():
                column += _values(TRIAL_METRICS[key], *pair)
            sizes = zip(levels, model.recipe.levels, strict=True)
            bits = sum(
                quantized.indices[0].numel() * math.log2(level.codebook_size) for quantized, level in sizes
            )
            columns["bits"] += [bits] * len(original)
            pictures = zip(batch_names, _pictures(original), _pictures(stored), strict=True)
            samples += [
                Sample(*picture)
                for number, picture in enumerate(pictures, start=len(names))
                if number in keep
            ]
            names += batch_names
    if not names:
        raise FlatvqError("there are no images to evaluate", "check the folder")
    values = {key: tuple(column) for key, column in columns.items()}
    return Evaluation(
        tuple(names),
        **values,
        levels=tuple(tally.summary() for tally in tallies),
        samples=tuple(samples),
        others={key: tuple(column) for key, column in others.items()},
    )


def reconstruct(model: VQVAE, original: Tensor) -> tuple[Tensor, tuple[Quantized, ...]]:
    """Reconstruct 8-bit images of any size.

    Args:
        model: the tokenizer, in eval mode.
        original: uint8 [B, C, H, W], with the C of the model's recipe.

    Returns:
        The reconstructions rounded to 8 bits, uint8 of the same shape, on the CPU; and the quantized levels.

    Raises:
        FlatvqError: if the axes or the dtype do not match.
        NonFiniteError: if a reconstruction contains NaN or infinity.
    """
    require_axes(original, "images", "B", model.recipe.channels, "H", "W")
    if original.dtype != torch.uint8:
        what = f"images of dtype {str(original.dtype).removeprefix('torch.')} are not 8-bit"
        raise FlatvqError(what, "pass uint8 values from 0 to 255")
    height, width = original.shape[2:]
    right, below = -width % model.factor, -height % model.factor
    device = next(model.parameters()).device
    pixels = F.pad(original.to(device).float() / 255, (0, right, 0, below), mode="replicate")
    # Results must not depend on the autocast of the caller.
    with torch.autocast(device.type, enabled=False):
        output = model(pixels)
    reconstruction = output.reconstruction[:, :, :height, :width]
    if not bool(reconstruction.isfinite().all()):
        raise NonFiniteError("NaN or infinity in the reconstructions", "check whether the training diverged")
    return fidelity.as_stored(reconstruction).mul(255).round().to(torch.uint8).cpu(), output.levels


def _measure(columns: dict[str, list[Any]], stored: Tensor, original: Tensor, structure: bool) -> None:
    height, width = original.shape[2:]
    columns["mse"] += fidelity.mse(stored, original).tolist()
    columns["psnr_db"] += fidelity.psnr(stored, original, data_range=1.0).tolist()
    for name, metric, defined in (
        ("ssim", similarity.ssim, similarity.ssim_defined),
        ("ms_ssim", similarity.ms_ssim, similarity.ms_ssim_defined),
    ):
        measured = structure and defined(height, width)
        missing = [None] * len(original)
        columns[name] += metric(stored, original, data_range=1.0).tolist() if measured else missing
    columns["pixels"] += [height * width] * len(original)


def _values(metric: Metric, stored: Tensor, original: Tensor) -> list[float]:
    """Compute a metric of another package for each image of a batch."""
    assert metric.compute is not None
    values: Tensor = metric.compute(stored, original)
    if values.shape != stored.shape[:1]:
        what = f"the metric {metric.key!r} returned the shape {list(values.shape)} for {len(stored)} images"
        raise FlatvqError(what, "return one value for each image")
    if not bool(values.isfinite().all()):
        raise NonFiniteError(f"NaN or infinity in the metric {metric.key!r}", "return finite values")
    return [float(value) for value in values]


def _pictures(images: Tensor) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Convert uint8 [B, C, H, W] to arrays for Pillow: [H, W, 3] or, for one channel, [H, W]."""
    return list((images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)).numpy())
