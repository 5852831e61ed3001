"""LPIPS and rFID, with published weights that the user downloads.

Both need pretrained networks, which no package includes. They are loaded from a folder with these files:

    alexnet-owt-7be5be79.pth    AlexNet of torchvision                              LPIPS
    alex.pth                    linear heads of the lpips package, version 0.1      LPIPS
    inception-2015-12-05.pt     Inception of the StyleGAN metrics, a TorchScript    rFID

Only tensors are read from a `.pth` file; code in it is not executed. A TorchScript is a program that torch
runs: get it only from a source that you trust.

Axes: B images, H W rows and columns.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.evaluate.fidelity import as_stored
from flatvq.shapes import require_axes, require_floating

__all__ = [
    "FeatureNetwork",
    "Lpips",
    "PerceptualWeights",
    "find_weights",
    "load_features",
    "load_lpips",
    "lpips_defined",
]

_ALEXNET, _HEADS, _INCEPTION = "alexnet-owt-7be5be79.pth", "alex.pth", "inception-2015-12-05.pt"
_SOURCES = {
    _ALEXNET: f"torchvision: download.pytorch.org/models/{_ALEXNET}",
    _HEADS: "the lpips package: lpips/weights/v0.1; torchmetrics has it in functional/image/lpips_models",
    _INCEPTION: f"NVIDIA's stylegan2-ada-pytorch: pretrained/metrics/{_INCEPTION}",
}
_INCEPTION_FEATURES = 2048
# AlexNet's second pooling needs 3 rows, its first pooling therefore 7, and its first convolution 31.
_SMALLEST_SIDE = 31


@dataclass(frozen=True)
class PerceptualWeights:
    """The files of published weights in a folder; None for a missing file."""

    folder: Path
    alexnet: Path | None
    heads: Path | None
    inception: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that exist."""
        return tuple(path for path in (self.alexnet, self.heads, self.inception) if path is not None)


def find_weights(folder: Path) -> PerceptualWeights:
    """Find published weights by their published file names.

    Args:
        folder: the folder of the files.

    Returns:
        The files. `load_lpips` and `load_features` raise an error if the files that they need are missing.

    Raises:
        FlatvqError: if the folder does not exist or contains none of the files.

    Example:
        >>> find_weights(Path("nowhere"))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder of weights at 'nowhere': check --weights
    """
    if not folder.is_dir():
        raise FlatvqError(f"no folder of weights at '{folder}'", "check --weights")
    paths = [path if path.is_file() else None for path in (folder / name for name in _SOURCES)]
    if not any(paths):
        remedy = f"put {_ALEXNET} and {_HEADS} there for LPIPS, {_INCEPTION} for rFID"
        raise FlatvqError(f"no published weights in '{folder}'", remedy)
    return PerceptualWeights(folder, *paths)


class Lpips(nn.Module):
    """Learned perceptual image patch similarity on AlexNet (Zhang et al. 2018, equation 1), version 0.1.

        image --------.             5 ReLU outputs,    squared       linear    mean over    sum
                      +-> AlexNet -> unit length    -> difference -> heads  -> positions -> of 5
        reference ----'             over channels

    Created by `load_lpips`. Images are not resized.
    """

    def __init__(self) -> None:
        super().__init__()
        # torchvision's layout, so that its tensors match by name
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in (64, 192, 384, 256, 256))

    @torch.no_grad()
    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Return the distance of each image from its reference: symmetric, and 0 for identical images.

        Args:
            images: [B, 3, H, W] in [0, 1], at least 31 pixels on the shorter side; on any device, of any
                floating-point dtype.
            references: [B, 3, H, W] in [0, 1].

        Returns:
            [B] float32, the dtype of the network.

        Raises:
            FlatvqError: if the shapes differ or are not [B, 3, H, W], or the images are not floating-point or
                too small.
        """
        for batch, name in (images, "images"), (references, "references"):
            require_axes(batch, name, "B", 3, "H", "W")
            require_floating(batch, name, "divide 8-bit images by 255")
        shape = images.shape
        if shape != references.shape or not lpips_defined(shape[2], shape[3]):
            raise FlatvqError(
                f"LPIPS cannot compare images of shape {list(shape)} with {list(references.shape)}",
                f"pass batches of equal shape [B, 3, H, W], with H and W at least {_SMALLEST_SIDE}",
            )
        weight = next(self.parameters())
        taps = zip(self.heads, self._taps(images.to(weight)), self._taps(references.to(weight)), strict=True)
        distances = [head((x - y).square()).mean(dim=(1, 2, 3)) for head, x, y in taps]
        return torch.stack(distances).sum(dim=0)

    def _taps(self, images: Tensor) -> list[Tensor]:
        """Return the five ReLU outputs, scaled at each position to unit length over the channels."""
        # Channel means and standard deviations of the lpips package, for images in [-1, 1].
        mean = images.new_tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        deviation = images.new_tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        x, taps = (images * 2 - 1 - mean) / deviation, []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                taps.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return taps


def lpips_defined(height: int, width: int) -> bool:
    """Return whether an image is large enough for LPIPS.

    Example:
        >>> lpips_defined(31, 64), lpips_defined(30, 64)
        (True, False)
    """
    return min(height, width) >= _SMALLEST_SIDE


def load_lpips(weights: PerceptualWeights, device: str = "cpu") -> Lpips:
    """Load LPIPS in evaluation mode.

    Args:
        weights: the files, from `find_weights`.
        device: where to load it.

    Raises:
        FlatvqError: if a file is missing, unreadable, or lacks a tensor.
    """
    alexnet = _require(weights.alexnet, _ALEXNET, weights.folder, "LPIPS")
    heads = _require(weights.heads, _HEADS, weights.folder, "LPIPS")
    with torch.device("meta"):  # allocates and initializes nothing: all weights are replaced below
        lpips = Lpips()
    expected = lpips.state_dict()
    state = _tensors(alexnet, {name: name for name in expected if name.startswith("features.")}, expected)
    state |= _tensors(heads, {f"heads.{i}.weight": f"lin{i}.model.1.weight" for i in range(5)}, expected)
    lpips.load_state_dict(state, assign=True)
    return lpips.requires_grad_(False).eval().to(device)


@dataclass(frozen=True)
class FeatureNetwork:
    """The feature network of rFID, a TorchScript that is called as `script(images, return_features=True)`.

    It takes uint8 images [B, 3, H, W], resizes them itself, and returns [B, 2048], like
    `inception-2015-12-05.pt`. Created by `load_features`.
    """

    path: Path
    script: torch.jit.ScriptModule
    device: str

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images, after rounding them to 8 bits.

        Args:
            images: [B, 3, H, W] in [0, 1].

        Returns:
            [B, 2048].

        Raises:
            FlatvqError: if the images are not floating-point [B, 3, H, W], or the features are not [B, 2048].
        """
        require_axes(images, "images", "B", 3, "H", "W")
        stored = as_stored(images).mul(255).round().to(self.device, torch.uint8)
        features = self.script(stored, return_features=True)
        if not isinstance(features, Tensor) or features.shape != (len(images), _INCEPTION_FEATURES):
            raise _bad_weights(self.path, f"does not give {_INCEPTION_FEATURES} features per image")
        return features


def load_features(weights: PerceptualWeights, device: str = "cpu") -> FeatureNetwork:
    """Load the feature network of rFID in evaluation mode.

    Args:
        weights: the files, from `find_weights`.
        device: where to load it.

    Raises:
        FlatvqError: if the file is missing, or not a TorchScript that takes `return_features`.
    """
    path = _require(weights.inception, _INCEPTION, weights.folder, "rFID")
    try:
        # torch deprecates TorchScript, but this network is published in no other form.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
        arguments = {argument.name for argument in script.forward.schema.arguments}
    except (RuntimeError, ValueError, AttributeError):
        raise _bad_weights(path, "is not a TorchScript network") from None
    if "return_features" not in arguments:
        raise _bad_weights(path, "takes no return_features")
    return FeatureNetwork(path, script, device)


def _require(path: Path | None, name: str, folder: Path, metric: str) -> Path:
    if path is None:
        raise FlatvqError(
            f"{metric} needs {name}, which is not in '{folder}'", f"get it from {_SOURCES[name]}"
        )
    return path


def _bad_weights(path: Path, fault: str) -> FlatvqError:
    return FlatvqError(f"weights file '{path}' {fault}", f"download it again from {_SOURCES[path.name]}")


def _tensors(path: Path, names: dict[str, str], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read tensors from a file.

    Args:
        path: the file.
        names: the name in the file of each tensor.
        expected: tensors of the expected shapes.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the parser may raise anything on a file of another format
        raise _bad_weights(path, "cannot be read") from None
    tensors: dict[str, Tensor] = {}
    for name, stored_name in names.items():
        tensor = stored.get(stored_name) if isinstance(stored, dict) else None
        if not isinstance(tensor, Tensor) or tensor.shape != expected[name].shape:
            raise _bad_weights(path, f"has no {stored_name} of shape {list(expected[name].shape)}")
        tensors[name] = tensor.float()
    return tensors
