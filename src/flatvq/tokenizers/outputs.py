"""Calls tokenizers, and checks what they return: those of other libraries may return anything.

Axes: B batch, C channels, H W rows and columns of pixels, h w rows and columns of a level's grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.shapes import require_floating, require_integers
from flatvq.tokenizers.protocol import Tokenizer, TokenizerLevel

__all__ = ["decoded", "encoded", "require_levels"]

# Reconstructions are clamped to [0, 1], which would hide images on another scale, such as 0 to 255.
_LEAST_MEAN, _LARGEST_MEAN = -1.0, 2.0


def encoded(tokenizer: Tokenizer, images: Tensor) -> tuple[Tensor, ...]:
    """Encode images, and check that the indices are those of the levels.

    Args:
        tokenizer: the tokenizer, in eval mode.
        images: float32 [B, C, H, W] in [0, 1]; H and W multiples of the factor.

    Returns:
        int64 [B, *index_shape, h, w] for each level.

    Raises:
        FlatvqError: if `encode` returns something else.
    """
    levels = tokenizer.levels
    indices = tokenizer.encode(images)
    if not isinstance(indices, tuple | list) or len(indices) != len(levels):
        returned = f"{len(indices)} of them" if isinstance(indices, tuple | list) else type(indices).__name__
        what = f"encode() of the tokenizer returns {returned}, not a tuple with one tensor for each level"
        raise FlatvqError(what, f"return {len(levels)}, or correct its levels")
    for number, (grid, level) in enumerate(zip(indices, levels, strict=True)):
        if not isinstance(grid, Tensor):
            what = f"encode() of the tokenizer returns {type(grid).__name__} for level {number}"
            raise FlatvqError(what, "return a tensor")
        require_integers(grid, f"indices[{number}] of the tokenizer")
        shape = (len(images), *level.shape_for(images.shape[2], images.shape[3]))
        smallest, largest = (int(each) for each in grid.long().aminmax()) if grid.numel() else (0, 0)
        if grid.shape != shape or smallest < 0 or largest >= level.codebook_size:
            what = f"the tokenizer returned indices of shape {list(grid.shape)} from {smallest} to "
            what += f"{largest}, not {list(shape)} below {level.codebook_size}"
            raise FlatvqError(what, "correct its levels")
    return tuple(grid.long() for grid in indices)


def decoded(tokenizer: Tokenizer, indices: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Decode indices, and check the images.

    Args:
        tokenizer: the tokenizer, in eval mode.
        indices: int64 [B, *index_shape, h, w] for each level.
        height: rows of pixels of the images, a multiple of the factor.
        width: columns of pixels.

    Returns:
        Images [B, C, H, W] of floating-point numbers, not clamped.

    Raises:
        FlatvqError: if `decode` returns something else.
        NonFiniteError: if a pixel is NaN or infinite.
    """
    images = tokenizer.decode(indices)
    if not isinstance(images, Tensor):
        what = f"decode() of the tokenizer returns {type(images).__name__}, not images"
        raise FlatvqError(what, "return a tensor [B, C, H, W]")
    shape = (len(indices[0]), tokenizer.preprocess.channels, height, width)
    if images.shape != shape:
        what = f"the tokenizer returns the shape {list(images.shape)} for images of {list(shape)}"
        raise FlatvqError(what, "check its decode()")
    require_floating(images, "images of the tokenizer", "return them in [0, 1]")
    if not bool(images.isfinite().all()):
        raise NonFiniteError("NaN or infinity in the reconstructions", "check the weights of the tokenizer")
    if images.numel() and not _LEAST_MEAN <= (mean := float(images.mean())) <= _LARGEST_MEAN:
        what = f"the mean of the pixels that decode() of the tokenizer returns is {mean:.3g}"
        raise FlatvqError(what, "return images from 0 to 1, for example divided by 255")
    return images


def require_levels(tokenizer: Tokenizer, origin: str) -> None:
    """Check that a tokenizer describes its levels.

    Args:
        tokenizer: the tokenizer.
        origin: the name of the tokenizer in error messages.

    Raises:
        FlatvqError: if its levels are not a tuple of at least one `TokenizerLevel`.
    """
    levels: object = tokenizer.levels
    kinds = {type(level) for level in levels} if isinstance(levels, tuple) else set()
    if kinds != {TokenizerLevel}:
        what = f"the levels of {origin} are {str(levels)[:80]}"
        raise FlatvqError(what, "describe each grid of indices, as in (TokenizerLevel(1024, factor=8),)")
