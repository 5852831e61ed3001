"""Fidelity of each image: MSE and PSNR as pure functions, in float64.

Axes: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.shapes import require_axes, require_floating

__all__ = [
    "PSNR_CAP_DB",
    "as_stored",
    "mse",
    "paired",
    "psnr",
    "psnr_of_mean_mse",
    "require_range",
]

PSNR_CAP_DB = 100.0
"""The PSNR of identical images, and the maximum. It corresponds to an MSE of 1e-10 of the
squared range, which is less than a single sample that is off by one of 255 levels in a 226 x 226 colour
image."""


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
    images, references = paired(images, references)
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
        FlatvqError: if shapes or devices differ, the images have no pixels, the range is not positive, or
            integers exceed it.

    Example:
        >>> black, dark = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
        >>> values = psnr(torch.cat([black, dark]), torch.cat([black, black]), data_range=1.0)
        >>> values.round(decimals=4).tolist()
        [100.0, 20.0]
    """
    errors = mse(images, references)
    require_range(data_range, images, references)
    return _decibels(errors, data_range)


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
    require_range(data_range)
    return float(_decibels(errors.to(dtype=torch.float64, device="cpu").mean(), data_range))


def _decibels(error: Tensor, data_range: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / error.clamp(min=data_range**2 / 10 ** (PSNR_CAP_DB / 10)))


def paired(images: Tensor, references: Tensor, side: int = 1, metric: str = "MSE") -> tuple[Tensor, Tensor]:
    """Check two batches and convert them to float64.

    Args:
        images: [B, C, H, W].
        references: [B, C, H, W].
        side: the smallest side, in pixels, for which the metric is defined.
        metric: name of the metric in errors.

    Raises:
        FlatvqError: if shapes or devices differ, or the images are too small.
    """
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


def require_range(data_range: float, *batches: Tensor) -> None:
    """Check the range of pixel values.

    Args:
        data_range: maximum minus minimum of the possible pixel values.
        batches: images. Integers must lie in the range; floating-point values may exceed it.

    Raises:
        FlatvqError: if the range is not positive and finite, or integers exceed it.
    """
    if not (isfinite(data_range) and data_range > 0):
        raise FlatvqError(
            f"data range {data_range} is not positive", "pass the range of pixel values, such as 1"
        )
    integers = [batch.long() for batch in batches if not batch.is_floating_point() and batch.numel()]
    if integers:
        least, most = min(int(batch.min()) for batch in integers), max(int(batch.max()) for batch in integers)
        if most - least > data_range:
            what = f"images with integers from {least} to {most} exceed the data range {data_range:g}"
            raise FlatvqError(what, "pass data_range=255 for 8-bit images, or divide them by 255")
