"""Evaluate a tokenizer on a folder of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flatvq.data import FileStatus, evaluation_crops, open_images, whole_images
from flatvq.errors import FlatvqError
from flatvq.evaluate import perceptual
from flatvq.evaluate.batches import NamedImage, batches
from flatvq.evaluate.definitions import protocol_id
from flatvq.evaluate.frechet import frechet_distance_of
from flatvq.evaluate.perceptual import PerceptualWeights
from flatvq.evaluate.provenance import measured_on
from flatvq.evaluate.result import mean_over_all
from flatvq.evaluate.split import evaluate, reconstruct
from flatvq.model import VQVAE
from flatvq.model.mode import eval_mode
from flatvq.model.pixels import with_channels

__all__ = ["evaluate_folder"]


def evaluate_folder(
    model: VQVAE,
    folder: str | Path,
    *,
    crop: int | None = None,
    resize: int = 0,
    white_level: int = 0,
    weights: str | Path | None = None,
    tokenizer: str | Path | None = None,
    image_column: str = "image",
    image_suffix: str = "",
) -> dict[str, Any]:
    """Evaluate a tokenizer on every image of a folder.

    Args:
        model: the tokenizer.
        folder: the folder of images, with its sub-folders; or a pattern or URL of .tar or .parquet shards.
        crop: side of the centre crops in pixels; None for whole images.
        resize: pixels of the shorter side after scaling, before the crop; 0 for the original size.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        weights: folder with published weights; LPIPS and rFID are computed if it has their weights.
        tokenizer: the folder that the model was loaded from, whose hash is recorded.
        image_column: the column of images in parquet shards.
        image_suffix: the suffix of images in tar shards; empty for all images.

    Returns:
        The content of `metrics.json` (docs/records.md), with `data`, and `files` for the status of files. A
        metric that is undefined for an image is None, and `files` names the image.

    Raises:
        FlatvqError: if no image of the folder is readable, the weights are invalid, or `model` is no VQVAE.
    """
    if not isinstance(model, VQVAE):
        what = f"a model of type {type(model).__name__} is not a VQVAE"
        raise FlatvqError(what, "pass what flatvq.load returns, or the model inside of a wrapper")
    smallest = crop or model.factor
    opened = open_images(folder, smallest, resize, white_level, None, image_column, image_suffix)
    tokenizer_folder = None if tokenizer is None else Path(tokenizer)
    networks = None if weights is None else perceptual.find_weights(Path(weights))

    def images() -> Iterable[NamedImage]:
        if crop is not None:
            return evaluation_crops(opened.images, crop)
        return whole_images(opened.images)

    evaluation = evaluate(model, images(), batch_size=1 if crop is None else 64)
    figures = evaluation.to_dict()
    per_image: dict[str, Sequence[float | None]] = {"SSIM": evaluation.ssim, "MS-SSIM": evaluation.ms_ssim}
    if networks is not None:
        perceptual_figures, distances = _perceptual(model, images, networks)
        figures |= perceptual_figures
        per_image["LPIPS"] = distances
    return {
        "data": str(folder),
        "evaluation_protocol": protocol_id(crop, resize, model.recipe.channels, white_level),
        "crop": crop,
        "white_level": white_level,
        **figures,
        "measured_on": measured_on(
            opened.images.fingerprint, tokenizer_folder, networks.files if networks is not None else ()
        ),
        "files": [
            asdict(file)
            for file in (
                *opened.file_statuses,
                *opened.images.late_file_statuses,
                *_too_small(evaluation.names, per_image),
            )
        ],
    }


def _too_small(names: Sequence[str], metrics: Mapping[str, Sequence[float | None]]) -> Iterator[FileStatus]:
    """Yield the status of each image without a metric that other images have. The mean is then undefined."""
    partly = {
        metric: values
        for metric, values in metrics.items()
        if None in values and any(value is not None for value in values)
    }
    for number, name in enumerate(names):
        missing = [metric for metric, values in partly.items() if values[number] is None]
        if missing:
            reason = f"too small for {' and '.join(missing)}, so there is no mean"
            yield FileStatus(name, "evaluation", "undefined", reason)


def _perceptual(
    model: VQVAE, images: Callable[[], Iterable[NamedImage]], weights: PerceptualWeights
) -> tuple[dict[str, float | None], list[float | None]]:
    """Compute mean LPIPS and rFID, each if its weights are available, and LPIPS of each image."""
    lpips = perceptual.load_lpips(weights) if weights.alexnet or weights.heads else None
    features = perceptual.load_features(weights) if weights.inception else None
    distances: list[float | None] = []
    originals: list[Tensor] = []
    reconstructions: list[Tensor] = []
    for original, stored in _pairs(model, images()):
        if lpips is not None:
            defined = perceptual.lpips_defined(original.shape[2], original.shape[3])
            distances.append(float(lpips(stored, original)) if defined else None)
        if features is not None:
            originals.append(features(original))
            reconstructions.append(features(stored))
    figures = {"lpips": mean_over_all(distances)} if lpips is not None else {}
    if features is not None:
        pixels = torch.cat(originals), torch.cat(reconstructions)
        # One image has no covariance.
        figures["rfid"] = frechet_distance_of(*pixels) if len(originals) > 1 else None
    return figures, distances


def _pairs(model: VQVAE, images: Iterable[NamedImage]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each image and its 8-bit reconstruction, [1, 3, H, W] in [0, 1], also for a one-channel model."""
    with torch.no_grad(), eval_mode(model):
        for _, colour in batches(images, 1):
            original = with_channels(colour, model.recipe.channels)
            stored, _ = reconstruct(model, original)
            yield with_channels(original, 3).float() / 255, with_channels(stored, 3).float() / 255
