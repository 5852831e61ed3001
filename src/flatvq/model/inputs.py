"""Checks and converts the inputs of a model: images, indices and code vectors.

Axes: B batch, C channels, H W rows and columns of pixels, h w rows and columns of a level's grid, D code dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.model.layout import grids_of
from flatvq.quantize.checks import has_values
from flatvq.recipe import ModelRecipe
from flatvq.shapes import Axis, require_axes, require_floating, require_integers

__all__ = ["code_vectors_for", "images_for", "require_indices", "require_unit_range"]

# Interpolation and noise exceed [0, 1] by less than this, images in [-1, 1] or [0, 255] by more.
_SLACK = 0.5


def images_for(model: ModelRecipe, images: Tensor, like: Tensor) -> Tensor:
    """Check a batch of images, and convert it to the number format of a model.

    Args:
        model: the recipe.
        images: [B, C, H, W], floating-point.
        like: a weight of the model.

    Returns:
        The images in the dtype of `like`.

    Raises:
        FlatvqError: if axes, dtype, device or size do not fit the model.
    """
    require_axes(images, "images", "B", model.channels, "H", "W")
    require_floating(images, "images", "convert 8-bit images with images.float() / 255")
    _require_device(images, "images", like)
    grids_of(model, (images.shape[2], images.shape[3]))
    return images.to(like.dtype)


def require_unit_range(images: Tensor) -> None:
    """Refuse images that are clearly not on the scale [0, 1].

    In compiled or exported graphs nothing is checked, because values cannot be read there.

    Raises:
        FlatvqError: if a value is below -0.5 or above 1.5.
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> require_unit_range(torch.tensor([0.0, 255.0]))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: images range from 0 to 255, not from 0 to 1: divide them by 255
    """
    if not has_values(images) or images.numel() == 0:
        return
    low, high = torch.stack(torch.aminmax(images)).tolist()
    if not (isfinite(low) and isfinite(high)):
        raise NonFiniteError("NaN or infinity in the images", "check how they were read and scaled")
    if low < -_SLACK or high > 1 + _SLACK:
        remedy = "map [-1, 1] to [0, 1] with (images + 1) / 2" if low < -_SLACK else "divide them by 255"
        raise FlatvqError(f"images range from {low:.3g} to {high:.3g}, not from 0 to 1", remedy)


def require_indices(model: ModelRecipe, indices: Sequence[Tensor]) -> None:
    """Check the shapes and dtypes of the indices of all levels. The quantizers check their values.

    Args:
        model: the recipe.
        indices: integers [B, *index_shape, h, w] for each level, bottom first.

    Raises:
        FlatvqError: if number of levels, axes, dtype or grids do not fit the model.
    """
    axes: list[tuple[Axis, ...]] = [("B", *level.index_shape, "h", "w") for level in model.levels]
    _require_levels(model, indices, "indices", axes)
    for number, level in enumerate(indices):
        require_integers(level, f"indices[{number}]")


def code_vectors_for(model: ModelRecipe, code_vectors: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """Check the code vectors of all levels, and convert them to the number format of a model.

    Args:
        model: the recipe.
        code_vectors: [B, D, h, w] for each level, bottom first, floating-point.
        like: a weight of the model.

    Returns:
        The code vectors in the dtype of `like`.

    Raises:
        FlatvqError: if number of levels, axes, dtype, device or grids do not fit the model.
    """
    axes: list[tuple[Axis, ...]] = [("B", level.code_dim, "h", "w") for level in model.levels]
    _require_levels(model, code_vectors, "code_vectors", axes)
    for number, level in enumerate(code_vectors):
        require_floating(level, f"code_vectors[{number}]")
        _require_device(level, f"code_vectors[{number}]", like)
    return [level.to(like.dtype) for level in code_vectors]


def _require_levels(
    model: ModelRecipe, given: Sequence[Tensor], name: str, axes: Sequence[tuple[Axis, ...]]
) -> None:
    """Check that there is one tensor per level, and that all belong to the same images."""
    count = len(axes)
    if not isinstance(given, Sequence):  # a tensor is not a sequence
        what = f"{name} of type {type(given).__name__} are not a list with one tensor per level"
        raise FlatvqError(what, f"pass [{', '.join(f'level{number}' for number in range(count))}]")
    if len(given) != count:
        what = f"{name} of {len(given)} levels do not fit a model of {count}"
        raise FlatvqError(what, "pass one tensor per level, bottom first")
    for number, level in enumerate(given):
        _require_grid(level, f"{name}[{number}]", axes[number])
        require_axes(level, f"{name}[{number}]", *axes[number])
    batches = [level.shape[0] for level in given]
    if any(batch != batches[0] for batch in batches):
        raise FlatvqError(f"{name} have batch sizes {batches}", "pass the same images on every level")
    grids = [(level.shape[-2], level.shape[-1]) for level in given]
    step = model.levels[0].downsample
    expected = list(grids_of(model, (grids[0][0] * step, grids[0][1] * step)))
    if grids != expected:
        what = f"{name} of grids {grids} do not belong to one image"
        raise FlatvqError(what, f"pass grids {expected}, bottom first")


def _require_grid(level: object, name: str, axes: Sequence[Axis]) -> None:
    """Refuse the indices of a sequence model, whose grid is flattened."""
    if isinstance(level, Tensor) and level.ndim == len(axes) - 1 and not level.is_floating_point():
        what = (
            f"{name} of shape {list(level.shape)} have {level.ndim} axes, not [{', '.join(map(str, axes))}]"
        )
        remedy = f"restore a flattened grid, {name}.unflatten(-1, (h, w)), or add a batch axis, {name}[None]"
        raise FlatvqError(what, remedy)


def _require_device(tensor: Tensor, name: str, like: Tensor) -> None:
    """Refuse a tensor on another device than a weight. Sharded weights may be offloaded and are skipped."""
    if tensor.device != like.device and type(like) in (Tensor, nn.Parameter):
        what = f"{name} on {tensor.device} do not fit a model on {like.device}"
        raise FlatvqError(what, f"move them with .to('{like.device}')")
