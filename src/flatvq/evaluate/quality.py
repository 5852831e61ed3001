"""Quality of a set of reconstructions: metrics of each pair, and distances between the two sets.

Axes: H W rows and columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flatvq.data.types import Pixels
from flatvq.errors import MissingExtraError
from flatvq.evaluate import fidelity, perceptual, similarity
from flatvq.evaluate.frechet import frechet_distance_of
from flatvq.evaluate.recognition import WEIGHTS, load_classifier
from flatvq.evaluate.result import mean_over_all

__all__ = ["METRICS", "Quality", "Tally", "ssimulacra2_defined"]

METRICS = {
    "psnr_db": "PSNR, dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "ssimulacra2": "SSIMULACRA 2",
    "lpips": "LPIPS",
    "efficientnet_lite0_top1_agreement": "top-1 agreement",
    "efficientnet_lite0_frechet": "Lite0 Fréchet",
    "rfid": "rFID",
}
"""Headings of all metrics, by key."""

# The metric halves the image five times and needs 8 pixels at the coarsest scale.
_SSIMULACRA2_SIDE = 225

Pair = Callable[[Tensor, Tensor], float | None]
Features = Callable[[Tensor], Tensor]


def ssimulacra2_defined(height: int, width: int) -> bool:
    """Return whether an image has all six scales of SSIMULACRA 2.

    Example:
        >>> ssimulacra2_defined(225, 300), ssimulacra2_defined(224, 300)
        (True, False)
    """
    return min(height, width) >= _SSIMULACRA2_SIDE


class Quality:
    """The metrics that can be computed here.

    Args:
        weights: folder with published weights for LPIPS and rFID; None for neither.

    Attributes:
        missing: an explanation for each metric whose package is not installed.
        packages: the versions of the packages that compute the others.
        files: the files of weights.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self.missing: list[str] = []
        self.packages: dict[str, str] = {}
        self.pairs: dict[str, Pair] = {"psnr_db": _psnr, "ssim": _ssim, "ms_ssim": _ms_ssim}
        self.features: dict[str, Features] = {}
        self.classifier = None
        try:
            self.pairs["ssimulacra2"] = _ssimulacra2()
            self.packages["ssimulacra2"] = metadata.version("ssimulacra2")
        except MissingExtraError as error:
            self.missing.append(str(error))
        try:
            self.classifier = load_classifier()
            self.packages[WEIGHTS] = metadata.version(WEIGHTS)
        except MissingExtraError as error:
            self.missing.append(str(error))
        weight_files = None if weights is None else perceptual.find_weights(weights)
        self.files = weight_files.files if weight_files else ()
        if weight_files and (weight_files.alexnet or weight_files.heads):
            self.pairs["lpips"] = _lpips(perceptual.load_lpips(weight_files))
        if weight_files and weight_files.inception:
            inception = perceptual.load_features(weight_files)
            self.features["rfid"] = lambda images: inception(images.float() / 255)

    def compare(
        self, original: Pixels, stored: Pixels, original_features: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Measure a reconstruction.

        Args:
            original: uint8 [H, W, C], with one or three channels.
            stored: uint8 of the same shape.
            original_features: the result of `features_of` for the original.

        Returns:
            The value of each metric of pairs, by key, None where it is undefined; and under `features` those
            of the reconstruction.
        """
        pair = _planes(stored).float() / 255, _planes(original).float() / 255
        values: dict[str, Any] = {key: metric(*pair) for key, metric in self.pairs.items()}
        stored_features = self.features_of(stored)
        if self.classifier is not None:
            agree = bool((stored_features["class"] == original_features["class"]).all())
            values["efficientnet_lite0_top1_agreement"] = float(agree)
        return {**values, "features": stored_features}

    def features_of(self, image: Pixels) -> dict[str, Tensor]:
        """Return the features of an image [1, F] by the key of their metric, and its class."""
        colour = _planes(image).expand(-1, 3, -1, -1)
        features_by_key = {key: features(colour) for key, features in self.features.items()}
        if self.classifier is not None:
            features_by_key["efficientnet_lite0_frechet"], features_by_key["class"] = self.classifier(colour)
        return features_by_key


@dataclass
class Tally:
    """The values of a set of reconstructions."""

    values: dict[str, list[float | None]] = field(default_factory=dict)
    """The values of each image, by key."""
    _features: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any], original_features: Mapping[str, Tensor]) -> None:
        """Add an image.

        Args:
            values: what `Quality.compare` returned, and further numbers.
            original_features: the result of `Quality.features_of` for the original.
        """
        for key, value in values.items():
            if key != "features":
                self.values.setdefault(key, []).append(value)
        for key, features in values["features"].items():
            if key != "class":
                self._features.setdefault(key, []).append((original_features[key], features))

    def means(self) -> dict[str, float | None]:
        """Return the mean of each metric, None if an image has no value; and the distances of the sets."""
        means = {key: mean_over_all(values) for key, values in self.values.items()}
        for key, pairs in self._features.items():
            originals, stored = (torch.cat(side) for side in zip(*pairs, strict=True))
            # One image has no covariance.
            means[key] = frechet_distance_of(originals, stored) if len(pairs) > 1 else None
        return means


def _planes(image: Pixels) -> Tensor:
    """Return an image as uint8 [1, C, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def _psnr(stored: Tensor, original: Tensor) -> float:
    return float(fidelity.psnr(stored, original, data_range=1.0))


def _ssim(stored: Tensor, original: Tensor) -> float | None:
    defined = similarity.ssim_defined(original.shape[2], original.shape[3])
    return float(similarity.ssim(stored, original, data_range=1.0)) if defined else None


def _ms_ssim(stored: Tensor, original: Tensor) -> float | None:
    defined = similarity.ms_ssim_defined(original.shape[2], original.shape[3])
    return float(similarity.ms_ssim(stored, original, data_range=1.0)) if defined else None


def _lpips(network: perceptual.Lpips) -> Pair:
    def compute(stored: Tensor, original: Tensor) -> float | None:
        if not perceptual.lpips_defined(original.shape[2], original.shape[3]):
            return None
        return float(network(stored.expand(-1, 3, -1, -1), original.expand(-1, 3, -1, -1)))

    return compute


def _ssimulacra2() -> Pair:
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError:
        raise MissingExtraError("SSIMULACRA 2 scores", "ssimulacra2", extra="quality") from None

    def compute(stored: Tensor, original: Tensor) -> float | None:
        if not ssimulacra2_defined(original.shape[2], original.shape[3]):
            return None
        return float(compute_ssimulacra2(_file(original), _file(stored)))

    return compute


def _file(image: Tensor) -> BytesIO:
    """Write an image [1, C, H, W] in [0, 1] as a file in memory, which is what the package reads."""
    pixels = image[0].mul(255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PPM")
    file.seek(0)
    return file
