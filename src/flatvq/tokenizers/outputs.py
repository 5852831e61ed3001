"""Calls tokenizers, and checks what they return: those of other libraries may return anything.

Axes: B batch, C channels, H W rows and columns of pixels, h w rows and columns of a level's grid.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.model import VQVAE
from flatvq.shapes import require_floating, require_integers
from flatvq.tokenizers.protocol import Preprocess, Tokenizer, TokenizerLevel
from flatvq.translation import cause_of, explained

__all__ = ["decoded", "encoded", "reported", "require_description", "require_same_scale"]

# Reconstructions are clamped to [0, 1], which would hide images on another scale, such as 0 to 255.
_LEAST_MEAN, _LARGEST_MEAN = -1.0, 2.0
# Images are from -1 to 1 if they correlate with the originals, and if the conversion to 0 to 1 divides their
# error by this.
_LEAST_CORRELATION, _LEAST_GAIN = 0.7, 4.0


def encoded(tokenizer: Tokenizer, images: Tensor) -> tuple[Tensor, ...]:
    """Encode images, and check that the indices are those of the levels.

    Args:
        tokenizer: the tokenizer, in eval mode.
        images: float32 [B, C, H, W] in [0, 1]; H and W multiples of the factor.

    Returns:
        int64 [B, *index_shape, h, w] for each level.

    Raises:
        FlatvqError: if `encode` fails or returns something else.
    """
    levels = tokenizer.levels
    with reported(tokenizer, "encode() of the tokenizer"):
        indices = tokenizer.encode(images)
    if not isinstance(indices, tuple | list) or len(indices) != len(levels):
        returned = f"{len(indices)} of them" if isinstance(indices, tuple | list) else type(indices).__name__
        what = f"encode() of the tokenizer returns {returned}, not a tuple with one tensor for each level"
        raise FlatvqError(what, f"return {len(levels)}, or correct its levels")
    for number, (grid, level) in enumerate(zip(indices, levels, strict=True)):
        if not isinstance(grid, Tensor):
            what = f"encode() of the tokenizer returns {type(grid).__name__} for level {number}"
            raise FlatvqError(what, "return a tensor")
        _require_dense(grid, f"indices[{number}] of the tokenizer")
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
        FlatvqError: if `decode` fails or returns something else.
        NonFiniteError: if a pixel is NaN or infinite.
    """
    with reported(tokenizer, "decode() of the tokenizer"):
        images = tokenizer.decode(indices)
    if not isinstance(images, Tensor):
        what = f"decode() of the tokenizer returns {type(images).__name__}, not images"
        raise FlatvqError(what, "return a tensor [B, C, H, W]")
    _require_dense(images, "images of the tokenizer")
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


def require_same_scale(images: Tensor, originals: Tensor) -> None:
    """Check that reconstructions are not from -1 to 1, the range that most networks compute in.

    Args:
        images: [B, C, H, W], as `decoded` returns them.
        originals: [B, C, H, W] in [0, 1].

    Raises:
        FlatvqError: if the images are from -1 to 1.
    """
    values, expected = images.float().flatten(), originals.float().flatten()
    if not (float(values.std()) > 0 and float(expected.std()) > 0):
        return
    if float(torch.corrcoef(torch.stack([values, expected]))[0, 1]) < _LEAST_CORRELATION:
        return
    if _LEAST_GAIN * _error((values + 1) / 2, expected) < _error(values, expected):
        raise FlatvqError("decode() of the tokenizer returns images from -1 to 1", "convert them to 0 to 1")


def _error(images: Tensor, originals: Tensor) -> float:
    return float((images.clamp(0, 1) - originals).square().mean())


def require_description(tokenizer: Tokenizer, origin: str) -> None:
    """Check that a tokenizer describes its levels, its preprocessing and its configuration.

    Args:
        tokenizer: the tokenizer.
        origin: the name of the tokenizer in error messages.

    Raises:
        FlatvqError: if its levels are not a tuple of at least one `TokenizerLevel`, if `preprocess` is no
            `Preprocess`, or if `inference_config` returns no JSON object.
    """
    with reported(tokenizer, f"levels of {origin}"):
        levels: object = tokenizer.levels
    kinds = {type(level) for level in levels} if isinstance(levels, tuple) else set()
    if kinds != {TokenizerLevel}:
        what = f"the levels of {origin} are {str(levels)[:80]}"
        raise FlatvqError(what, "describe each grid of indices, as in (TokenizerLevel(1024, factor=8),)")
    with reported(tokenizer, f"preprocess of {origin}"):
        preprocess: object = tokenizer.preprocess
    if not isinstance(preprocess, Preprocess):
        what = f"preprocess of {origin} is {str(preprocess)[:80]}"
        raise FlatvqError(what, "describe the size of images, as in Preprocess(resize=256, crop=256)")
    with reported(tokenizer, f"inference_config() of {origin}"):
        config: object = tokenizer.inference_config()
    try:
        json.dumps(config, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        what = f"inference_config() of {origin} returns other values than those of JSON ({error})"
        raise FlatvqError(what, "return numbers, strings, lists and dictionaries") from None


@contextmanager
def reported(tokenizer: Tokenizer, method: str) -> Iterator[None]:
    """Report exceptions of the code of another library in one line, with the place in that code.

    Args:
        tokenizer: the tokenizer that is called. Exceptions of models of flatvq are not changed.
        method: what is called, in error messages.

    Raises:
        FlatvqError: if the block raises an exception that points to a fault of the code.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if explained(error) is not None or isinstance(tokenizer, VQVAE):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{method} failed at {Path(place.filename).name}:{place.lineno} ({cause_of(error)[:200]})"
        raise FlatvqError(what, "correct the code of the tokenizer") from error


def _require_dense(tensor: Tensor, name: str) -> None:
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "on the meta device" if tensor.is_meta else f"of layout {tensor.layout}"
        raise FlatvqError(f"{name} are a tensor {kind}", "return a dense tensor with values")
