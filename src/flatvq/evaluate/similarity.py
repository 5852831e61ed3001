"""Structural similarity of each image: SSIM and MS-SSIM as pure functions.

Both compute in float64. For nearly equal images, variances are differences of nearly equal numbers. In
float32, the rounding error would be visible in the reported digits.

Axes: C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor
from torch.nn import functional

from flatvq.evaluate.fidelity import paired, require_range

__all__ = ["ms_ssim", "ms_ssim_defined", "ssim", "ssim_defined"]

_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


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
        FlatvqError: if shapes or devices differ, the images are too small, the range is not positive, or
            integers exceed it.

    Example:
        >>> flat = torch.full((1, 3, 16, 16), 0.4)
        >>> round(ssim(flat, flat + 0.2, data_range=1.0).item(), 4)  # (2 * .4 * .6 + C1) / (.4^2 + .6^2 + C1)
        0.9231
    """
    pair = paired(images, references, _WINDOW, "SSIM")
    require_range(data_range, images, references)

    def compare(image: Tensor, reference: Tensor) -> Tensor:
        return _terms(image, reference, data_range).similarity

    return _compare_each(compare, *pair)


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
        FlatvqError: if shapes or devices differ, the images are too small, the range is not positive, or
            integers exceed it.

    Example:
        >>> image = torch.linspace(0, 1, 176).expand(1, 3, 176, 176)
        >>> ms_ssim(image, image, data_range=1.0).tolist()
        [1.0]
    """
    pair = paired(images, references, _smallest_side(), "MS-SSIM")
    require_range(data_range, images, references)

    def compare(image: Tensor, reference: Tensor) -> Tensor:
        product = torch.ones((), dtype=image.dtype, device=image.device)
        for weight in _SCALE_WEIGHTS[:-1]:
            product = product * _terms(image, reference, data_range).contrast_structure.clamp(min=0) ** weight
            image, reference = functional.avg_pool2d(image, 2), functional.avg_pool2d(reference, 2)
        return product * _terms(image, reference, data_range).similarity.clamp(min=0) ** _SCALE_WEIGHTS[-1]

    return _compare_each(compare, *pair)


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


def _compare_each(compare: Callable[[Tensor, Tensor], Tensor], images: Tensor, references: Tensor) -> Tensor:
    """Compare image by image, so that intermediate results fit the processor's cache for any batch size."""
    values = [compare(image, reference) for image, reference in zip(images, references, strict=True)]
    return torch.stack(values) if values else images.new_zeros(0)


def _smallest_side() -> int:
    return int(_WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1))
