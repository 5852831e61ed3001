"""Fidelity of each image: MSE, PSNR, SSIM and MS-SSIM as pure functions.

All of them compute in float64. For nearly equal images, variances are differences of nearly equal numbers,
and the error of float32 would be visible in the digits that are reported.

Axes: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isfinite

import torch
from torch import Tensor
from torch.nn import functional

from flatvq.errors import FlatvqError
from flatvq.shapes import require_axes, require_floating

__all__ = [
    "PSNR_CAP_DB",
    "as_stored",
    "ms_ssim",
    "ms_ssim_defined",
    "mse",
    "psnr",
    "psnr_of_mean_mse",
    "ssim",
    "ssim_defined",
]

PSNR_CAP_DB = 100.0
"""The PSNR of identical images, and the maximum. It corresponds to an MSE of 1e-10 of the
squared range, which is less than a single sample that is off by one of 255 levels in a 226 x 226 colour
image."""

_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def as_stored(images: Tensor) -> Tensor:
    """Clamp images to [0, 1] and round them to 8 bits, as if they were stored in a file.

    Args:
        images: any shape; values outside of [0, 1] are clamped.

    Returns:
        float32 of the same shape; every value is n / 255 for an integer n.

    Raises:
        FlatvqError: if the images are not floating-point.

    Example:
        >>> as_stored(torch.tensor([-0.2, 0.5, 1.7])).mul(255).tolist()
        [0.0, 128.0, 255.0]
    """
    require_floating(images, "images", "divide 8-bit images by 255")
    return images.float().clamp(0, 1).mul(255).round().div(255)


def mse(images: Tensor, references: Tensor) -> Tensor:
    """Return the mean squared error of each image, over its channels and pixels.

    Args:
        images: [B, C, H, W].
        references: [B, C, H, W].

    Returns:
        [B] float64, in squared units of the input.

    Raises:
        FlatvqError: if shapes or devices differ, or the images have no pixels.

    Example:
        >>> mse(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)).tolist()
        [0.25]
    """
    images, references = _pair(images, references)
    return (images - references).square().mean(dim=(1, 2, 3))


def psnr(images: Tensor, references: Tensor, *, data_range: float) -> Tensor:
    """Return the peak signal-to-noise ratio of each image: 10 log10(data_range^2 / MSE).

    The value is capped at `PSNR_CAP_DB`. 8-bit images can be identical, and an infinite value could neither
    be averaged nor written as JSON.

    Args:
        images: [B, C, H, W].
        references: [B, C, H, W].
        data_range: maximum minus minimum of the possible pixel values; 1 for [0, 1], 255 for 8 bits.

    Returns:
        [B] float64, in decibels.

    Raises:
        FlatvqError: if shapes or devices differ, the images have no pixels, or the range is not positive.

    Example:
        >>> black, dark = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
        >>> values = psnr(torch.cat([black, dark]), torch.cat([black, black]), data_range=1.0)
        >>> values.round(decimals=4).tolist()
        [100.0, 20.0]
    """
    return _decibels(mse(images, references), data_range)


def psnr_of_mean_mse(errors: Tensor, *, data_range: float) -> float:
    """Return the PSNR of the mean MSE of many images, which codecs report for a whole set.

    By Jensen's inequality it never exceeds the mean PSNR of the images. The difference grows with the
    variation between images, so a result must say which of the two it is.

    Args:
        errors: [N], the mean squared error of each image from `mse`.
        data_range: maximum minus minimum of the possible pixel values.

    Returns:
        Decibels, at most `PSNR_CAP_DB`.

    Raises:
        FlatvqError: if there is no image, or the range is not positive.

    Example:
        >>> round(psnr_of_mean_mse(torch.tensor([0.0001, 0.0199]), data_range=1.0), 4)
        20.0
    """
    require_axes(errors, "errors", "N")
    if errors.numel() == 0:
        raise FlatvqError("no images to average the error of", "evaluate at least one")
    return float(_decibels(errors.to(dtype=torch.float64, device="cpu").mean(), data_range))


def ssim(images: Tensor, references: Tensor, *, data_range: float) -> Tensor:
    """Return the structural similarity of each image (Wang et al. 2004, equation 13).

    Local moments are weighted by an 11 x 11 Gaussian of standard deviation 1.5 that sums to one, without a
    correction for sample size; K1 = 0.01, K2 = 0.03. Only windows inside the image count, as in the authors'
    code and scikit-image. torchmetrics also counts windows over a mirrored border, which changes the value of
    small images by a few per cent. The result is the mean over windows and colour channels. Images are not
    resized; the authors' code first shrinks images of 384 pixels and more.

    Args:
        images: [B, C, H, W], at least 11 pixels on the shorter side.
        references: [B, C, H, W].
        data_range: maximum minus minimum of the possible pixel values.

    Returns:
        [B] float64, at most 1.

    Raises:
        FlatvqError: if shapes or devices differ, the images are too small, or the range is not positive.

    Example:
        >>> flat = torch.full((1, 3, 16, 16), 0.4)
        >>> round(ssim(flat, flat + 0.2, data_range=1.0).item(), 4)  # (2 * .4 * .6 + C1) / (.4^2 + .6^2 + C1)
        0.9231
    """
    images, references = _pair(images, references, _WINDOW, "SSIM")

    def compare(image: Tensor, reference: Tensor) -> Tensor:
        return _terms(image, reference, data_range).similarity

    return _compare_each(compare, images, references, data_range)


def ssim_defined(height: int, width: int) -> bool:
    """Return whether an image is large enough for SSIM: one window of 11 x 11 pixels must fit.

    Example:
        >>> ssim_defined(11, 64), ssim_defined(10, 64)
        (True, False)
    """
    return min(height, width) >= _WINDOW


def ms_ssim_defined(height: int, width: int) -> bool:
    """Return whether an image is large enough for MS-SSIM: at the coarsest scale, 1/16, one window must fit.

    Example:
        >>> ms_ssim_defined(176, 256), ms_ssim_defined(175, 256)
        (True, False)
    """
    return min(height, width) >= _smallest_side()


def ms_ssim(images: Tensor, references: Tensor, *, data_range: float) -> Tensor:
    """Return the multi-scale structural similarity of each image (Wang, Simoncelli & Bovik 2003, equation 7).

    There are five scales. Each halves the previous one by averaging 2 x 2 pixels; an odd last row or column
    is dropped. The result is the product of contrast x structure of the four finest scales and the full
    similarity of the coarsest, each averaged over windows and channels as in `ssim` and raised to the
    published exponent. A negative average counts as 0, because a fractional power of it is undefined.

    Args:
        images: [B, C, H, W], at least 176 pixels on the shorter side: see `ms_ssim_defined`.
        references: [B, C, H, W].
        data_range: maximum minus minimum of the possible pixel values.

    Returns:
        [B] float64, in [0, 1].

    Raises:
        FlatvqError: if shapes or devices differ, the images are too small, or the range is not positive.

    Example:
        >>> image = torch.linspace(0, 1, 176).expand(1, 3, 176, 176)
        >>> ms_ssim(image, image, data_range=1.0).tolist()
        [1.0]
    """
    images, references = _pair(images, references, _smallest_side(), "MS-SSIM")

    def compare(image: Tensor, reference: Tensor) -> Tensor:
        product = torch.ones((), dtype=image.dtype, device=image.device)
        for weight in _SCALE_WEIGHTS[:-1]:
            product = product * _terms(image, reference, data_range).contrast_structure.clamp(min=0) ** weight
            image, reference = functional.avg_pool2d(image, 2), functional.avg_pool2d(reference, 2)
        return product * _terms(image, reference, data_range).similarity.clamp(min=0) ** _SCALE_WEIGHTS[-1]

    return _compare_each(compare, images, references, data_range)


@dataclass(frozen=True)
class _Terms:
    """Means over windows and channels of contrast x structure, and of its product with luminance (SSIM)."""

    contrast_structure: Tensor
    similarity: Tensor


def _terms(image: Tensor, reference: Tensor, data_range: float) -> _Terms:
    """Compare one image [C, H, W] with its reference; equations 6, 9 and 10 of Wang et al. 2004."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    planes = [image, reference, image.square(), reference.square(), image * reference]
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _local_means(torch.stack(planes))
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast_structure = (2 * (mean_xy - product) + c2) / (mean_xx + mean_yy - squares + c2)
    luminance = (2 * product + c1) / (squares + c1)
    return _Terms(contrast_structure.mean(), (luminance * contrast_structure).mean())


def _local_means(planes: Tensor) -> Tensor:
    """Return Gaussian means [..., H - 10, W - 10] at all positions where the window fits.

    One shifted, scaled addition per tap is, in float64 on a CPU, eight times as fast as `conv2d`, which
    unfolds its input first.
    """
    taps = [exp(-((i - _WINDOW // 2) ** 2) / (2 * _SIGMA**2)) for i in range(_WINDOW)]
    for axis in (-2, -1):
        length = planes.shape[axis] - _WINDOW + 1
        total = torch.zeros_like(planes.narrow(axis, 0, length))
        for i, tap in enumerate(taps):
            total.add_(planes.narrow(axis, i, length), alpha=tap / sum(taps))
        planes = total
    return planes


def _compare_each(
    compare: Callable[[Tensor, Tensor], Tensor], images: Tensor, references: Tensor, data_range: float
) -> Tensor:
    """Compare image by image, so that intermediate results fit the processor's cache for any batch size."""
    _require_range(data_range)
    values = [compare(image, reference) for image, reference in zip(images, references, strict=True)]
    return torch.stack(values) if values else images.new_zeros(0)


def _decibels(error: Tensor, data_range: float) -> Tensor:
    _require_range(data_range)
    return 10 * torch.log10(data_range**2 / error.clamp(min=data_range**2 / 10 ** (PSNR_CAP_DB / 10)))


def _pair(images: Tensor, references: Tensor, side: int = 1, metric: str = "MSE") -> tuple[Tensor, Tensor]:
    """Check two batches and convert them to float64."""
    require_axes(images, "images", "B", "C", "H", "W")
    require_axes(references, "references", "B", "C", "H", "W")
    if images.shape != references.shape:
        raise FlatvqError(
            f"cannot compare images of shape {list(images.shape)} with {list(references.shape)}",
            "pass two batches of the same [B, C, H, W]",
        )
    formats = [
        f"{str(batch.dtype).removeprefix('torch.')} on {batch.device}" for batch in (images, references)
    ]
    comparable = images.is_floating_point() == references.is_floating_point() and not images.is_complex()
    if images.device != references.device or not comparable:
        raise FlatvqError(
            f"cannot compare images of {formats[0]} with {formats[1]}",
            "pass real numbers of the same scale on the same device",
        )
    channels, height, width = images.shape[1:]
    if channels < 1 or min(height, width) < side:
        raise FlatvqError(
            f"{metric} is not defined for {channels} channels of {height} x {width} pixels",
            f"evaluate images of at least {side} x {side}",
        )
    return _double(images), _double(references)


def _double(images: Tensor) -> Tensor:
    images = images.detach()
    if images.device.type == "mps":  # has no float64
        images = images.cpu()
    return images.to(torch.float64)


def _require_range(data_range: float) -> None:
    if not (isfinite(data_range) and data_range > 0):
        raise FlatvqError(
            f"data range {data_range} is not positive", "pass the range of pixel values, such as 1"
        )


def _smallest_side() -> int:
    return int(_WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1))
