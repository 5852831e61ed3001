"""Group images into batches for evaluation.

Axes: B batch, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["NamedImage", "batches"]

NamedImage: TypeAlias = "tuple[str, np.ndarray[Any, np.dtype[np.uint8]]]"
"""A name and uint8 [H, W, 3]."""


def batches(images: Iterable[NamedImage], batch_size: int) -> Iterator[tuple[list[str], Tensor]]:
    """Stack consecutive images of equal size into batches.

    Args:
        images: pairs of a name and uint8 [H, W, 3].
        batch_size: maximum number of images per batch.

    Yields:
        The names and the pixels of each batch, uint8 [B, 3, H, W].

    Raises:
        FlatvqError: if an image has no name, or is not uint8 [H, W, 3].

    Example:
        >>> grey = np.full((16, 16, 3), 128, np.uint8)
        >>> names, pixels = next(batches([("a.png", grey), ("b.png", grey)], batch_size=64))
        >>> names, pixels.shape
        (['a.png', 'b.png'], torch.Size([2, 3, 16, 16]))
    """
    for _, group in groupby(map(_checked, images), key=lambda named: named[1].shape):
        while chunk := list(islice(group, batch_size)):
            stacked = np.stack([pixels for _, pixels in chunk])
            yield [name for name, _ in chunk], torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _checked(named: NamedImage) -> NamedImage:
    """Return the image if it is a pair of a name and uint8 [H, W, 3]; raise otherwise."""
    if not isinstance(named, tuple) or len(named) != 2:
        raise FlatvqError(f"an image of type {type(named).__name__} has no name", "pass pairs (name, pixels)")
    name, pixels = named
    array = isinstance(pixels, np.ndarray)
    if not array or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        kind = f"{pixels.dtype} {list(pixels.shape)}" if array else type(pixels).__name__
        what = f"image '{name}' is {kind}, not uint8 [H, W, 3]"
        raise FlatvqError(what, "convert it with Pillow's .convert('RGB')")
    return named
