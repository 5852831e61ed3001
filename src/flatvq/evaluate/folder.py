"""Evaluation of a tokenizer on any folder of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatvq.data import evaluation_crops, open_folder
from flatvq.evaluate import perceptual
from flatvq.evaluate.protocol import protocol_id
from flatvq.evaluate.split import NamedImage, evaluate, reconstruct
from flatvq.model import VQVAE

__all__ = ["evaluate_folder"]


def evaluate_folder(
    model: VQVAE, folder: Path, *, crop: int | None, resize: int, weights: Path | None = None
) -> dict[str, Any]:
    """Measure a tokenizer on every image of a folder.

    Args:
        model: the tokenizer.
        folder: with images, nested or not.
        crop: side of the centre crops in pixels; None for whole images.
        resize: pixels of the shorter side to which images are scaled first; 0 for their own size.
        weights: folder with published weights; LPIPS and rFID are measured if theirs are in it.

    Returns:
        The figures of `metrics.json` (docs/records.md), with `data`, and `files` for what became of odd ones.

    Raises:
        FlatvqError: if the folder holds no readable image, or the weights are not what they should be.
    """
    found = open_folder(folder, crop=crop or model.factor, resize=resize)

    def images() -> Iterable[NamedImage]:
        if crop is not None:
            return evaluation_crops(found.images, crop)
        return zip(found.images.names, map(found.images.load, range(len(found.images))), strict=True)

    return {
        "data": str(folder),
        "protocol": protocol_id(crop, resize),
        "crop": crop,
        **evaluate(model, images(), batch_size=1 if crop is None else 64).record(),
        **(_perceptual(model, images, weights) if weights is not None else {}),
        "files": [asdict(fate) for fate in found.fates],
    }


def _perceptual(model: VQVAE, images: Callable[[], Iterable[NamedImage]], folder: Path) -> dict[str, float]:
    """Measure LPIPS (mean over images) and rFID with the weights that are in the folder."""
    weights = perceptual.find_weights(folder)
    lpips = perceptual.load_lpips(weights) if weights.alexnet or weights.heads else None
    features = perceptual.load_features(weights) if weights.inception else None
    distances: list[float] = []
    real: list[Tensor] = []
    rebuilt: list[Tensor] = []
    for original, stored in _pairs(model, images()):
        if lpips is not None:
            distances += lpips(stored, original).tolist()
        if features is not None:
            real.append(features(original))
            rebuilt.append(features(stored))
    measured = {"lpips": float(np.mean(distances))} if distances else {}
    if real:
        statistics = [perceptual.FeatureStatistics.of(torch.cat(found)) for found in (real, rebuilt)]
        measured["rfid"] = perceptual.frechet_distance(*statistics)
    return measured


def _pairs(model: VQVAE, images: Iterable[NamedImage]) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield each image and its stored reconstruction, [1, 3, H, W] in [0, 1]."""
    with torch.no_grad():
        for _, pixels in images:
            original = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
            stored, _ = reconstruct(model, original)
            yield original.float() / 255, stored.float() / 255
