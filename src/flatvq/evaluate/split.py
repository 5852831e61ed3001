"""Evaluation of a model on a whole split: fidelity per image, usage per level, in eval mode and float32.

Axes: B batch, H W rows and columns, h w a level's grid, D code dim.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.evaluate import fidelity
from flatvq.evaluate.batches import NamedImage, batches
from flatvq.model import VQVAE
from flatvq.model.pixels import with_channels
from flatvq.quantize import CodeUsage, Quantized, UsageCounter
from flatvq.quantize.checks import whole
from flatvq.recipe import LevelRecipe
from flatvq.shapes import require_axes

__all__ = ["Evaluation", "LevelEvaluation", "Sample", "eval_mode", "evaluate", "mean_over_all", "reconstruct"]


@dataclass(frozen=True)
class LevelEvaluation:
    """One level over the split."""

    grid: tuple[int, int] | None
    """Rows and columns of indices; None if the images differ in size."""
    code_dim: int
    """D."""
    indices_per_cell: int
    """Q."""
    usage: CodeUsage
    """Statistics of the pooled histogram."""
    quantization_error: float
    """E|z - e|^2 / Var(z) over the split, so that scale cannot hide it."""
    counts: tuple[int, ...]
    """The pooled histogram [K]; of Q codebooks, one after the other [Q K]."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `metrics.json` holds of the level."""
        usage = asdict(self.usage)
        return {
            "grid": self.grid,
            "code_dim": self.code_dim,
            "indices_per_cell": self.indices_per_cell,
            **usage,
            "quantization_error": self.quantization_error,
        }


@dataclass(frozen=True)
class Sample:
    """A picture and its reconstruction, uint8 [H, W, 3]; [H, W] for a model of one channel."""

    name: str
    original: np.ndarray[Any, np.dtype[np.uint8]]
    reconstruction: np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured on a split."""

    names: tuple[str, ...]
    """The images, in order."""
    psnr_db: tuple[float, ...]
    """Per image, in dB."""
    ssim: tuple[float | None, ...]
    """Per image; None where the image is too small."""
    mse: tuple[float, ...]
    """Per image, on the [0, 1] scale."""
    ms_ssim: tuple[float | None, ...]
    """Per image; None where the image is too small."""
    bits: tuple[float, ...]
    """Nominal bits per image: sum over levels of h x w x Q x log2 K."""
    pixels: tuple[int, ...]
    """H x W per image."""
    levels: tuple[LevelEvaluation, ...]
    """From the bottom to the top."""
    samples: tuple[Sample, ...]
    """The images that were asked for beside their reconstructions."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of `metrics.json` (docs/records.md)."""
        errors = torch.tensor(self.mse, dtype=torch.float64, device="cpu")
        effective = sum(sum(level.counts) * level.usage.effective_bits for level in self.levels)
        return {
            "images": len(self.names),
            "psnr_db": float(np.mean(self.psnr_db)),
            "psnr_of_mean_mse_db": fidelity.psnr_of_mean_mse(errors, data_range=1.0),
            "mse": float(errors.mean()),
            "ssim": mean_over_all(self.ssim),
            "ms_ssim": mean_over_all(self.ms_ssim),
            "bits_per_image": float(np.mean(self.bits)),
            "bits_per_pixel": sum(self.bits) / sum(self.pixels),
            "effective_bits_per_image": effective / len(self.names),
            "levels": [level.to_dict() for level in self.levels],
        }


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
        # On the CPU, for not every accelerator knows float64.
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
            # Latents that are all the same have nothing to lose.
            quantization_error=self.error / variance if variance > 0 else 0.0,
            counts=tuple(self.usage.counts.flatten().tolist()),
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
    """Reconstruct every image of a split and measure what came of it (DESIGN, pinned definitions).

    The model is put into eval mode for the while. Images whose sides are no multiple of the model's
    downsampling are padded by repeating the last row and column, and measured without the padding. A model of
    one channel is measured on the luma of colour images.

    Args:
        model: the tokenizer, on any device.
        images: pairs of a name and uint8 [H, W, 3]; equal neighbours in size share a batch.
        batch_size: images per forward pass.
        keep: positions of the images that are kept beside their reconstructions.
        structure: whether SSIM and MS-SSIM are measured, which can take longer than the model; if not, they
            are None.

    Returns:
        Per-image values and per-level statistics.

    Raises:
        FlatvqError: if there are no images, or one is not uint8 [H, W, 3].
        NonFiniteError: if the model gives NaN or infinity.
    """
    whole("batch_size", batch_size, 1)
    tallies = [_LevelTally(level) for level in model.recipe.levels]
    names: list[str] = []
    columns: dict[str, list[Any]] = {
        key: [] for key in ("psnr_db", "ssim", "mse", "ms_ssim", "bits", "pixels")
    }
    kept: list[Sample] = []
    with eval_mode(model):
        for batch_names, colour in batches(images, batch_size):
            original = with_channels(colour, model.recipe.channels)
            stored, levels = reconstruct(model, original)
            for tally, level in zip(tallies, levels, strict=True):
                tally.add(level)
            _measure(columns, original.float().div(255), stored.float().div(255), structure)
            sizes = zip(levels, model.recipe.levels, strict=True)
            bits = sum(found.indices[0].numel() * math.log2(level.codebook_size) for found, level in sizes)
            columns["bits"] += [bits] * len(original)
            pictures = zip(batch_names, _pictures(original), _pictures(stored), strict=True)
            kept += [Sample(*one) for number, one in enumerate(pictures, start=len(names)) if number in keep]
            names += batch_names
    if not names:
        raise FlatvqError("there are no images to evaluate", "check the folder")
    values = {key: tuple(column) for key, column in columns.items()}
    return Evaluation(tuple(names), **values, levels=tuple(t.summary() for t in tallies), samples=tuple(kept))


def reconstruct(model: VQVAE, original: Tensor) -> tuple[Tensor, tuple[Quantized, ...]]:
    """Reconstruct 8-bit images of any size.

    Args:
        model: the tokenizer, in eval mode.
        original: uint8 [B, C, H, W], C as in the model's recipe.

    Returns:
        The reconstructions as they would be stored, uint8 of the same shape, on the CPU; and the levels.

    Raises:
        FlatvqError: if axes or dtype do not fit.
        NonFiniteError: if a reconstruction holds NaN or infinity.
    """
    require_axes(original, "images", "B", model.recipe.channels, "H", "W")
    if original.dtype != torch.uint8:
        what = f"images of dtype {str(original.dtype).removeprefix('torch.')} are not of 8 bits"
        raise FlatvqError(what, "pass uint8 values from 0 to 255")
    height, width = original.shape[2:]
    right, below = -width % model.factor, -height % model.factor
    device = next(model.parameters()).device
    pixels = F.pad(original.to(device).float() / 255, (0, right, 0, below), mode="replicate")
    # Figures do not depend on the autocast of the caller.
    with torch.autocast(device.type, enabled=False):
        output = model(pixels)
    cut = output.reconstruction[:, :, :height, :width]
    if not bool(cut.isfinite().all()):
        raise NonFiniteError("NaN or infinity in the reconstructions", "check for a decoder that diverged")
    return fidelity.as_stored(cut).mul(255).round().to(torch.uint8).cpu(), output.levels


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its modules back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _measure(columns: dict[str, list[Any]], original: Tensor, stored: Tensor, structure: bool) -> None:
    height, width = original.shape[2:]
    columns["mse"] += fidelity.mse(stored, original).tolist()
    columns["psnr_db"] += fidelity.psnr(stored, original, data_range=1.0).tolist()
    for name, metric, defined in (
        ("ssim", fidelity.ssim, fidelity.ssim_defined),
        ("ms_ssim", fidelity.ms_ssim, fidelity.ms_ssim_defined),
    ):
        measured = structure and defined(height, width)
        missing = [None] * len(original)
        columns[name] += metric(stored, original, data_range=1.0).tolist() if measured else missing
    columns["pixels"] += [height * width] * len(original)


def mean_over_all(values: Sequence[float | None]) -> float | None:
    """Average over all images; None if one has no value, as a mean over a part would be of another split."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def _pictures(images: Tensor) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Turn uint8 [B, C, H, W] into what Pillow takes: [H, W, 3] or, of one channel, [H, W]."""
    return list((images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)).numpy())
