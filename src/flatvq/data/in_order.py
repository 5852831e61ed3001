"""Read the files of a set of images ahead that are loaded in a known order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from flatvq.data.types import Blocks, ImageSet, InBlocks

__all__ = ["blocks_of", "groups_in_order", "reading_in_order"]

_AHEAD_BYTES = 32 * 2**20


def reading_in_order(images: ImageSet, places: Sequence[int]) -> AbstractContextManager[None]:
    """Read files ahead within the context, if the set reads its files in blocks: twice 32 MiB or two blocks.

    Args:
        images: the images.
        places: the images that will be loaded, in this order, each as often as it is listed.

    Example:
        >>> from flatvq.data import load_image, open_data
        >>> from flatvq.recipe import DataRecipe
        >>> images = open_data(DataRecipe()).validation
        >>> with reading_in_order(images, [2, 3]):
        ...     [load_image(images, index).shape for index in (2, 3)]
        [(64, 64, 3), (64, 64, 3)]
    """
    blocks = blocks_of(images)
    if blocks is None or not isinstance(images, InBlocks):
        return nullcontext()
    return images.upcoming(groups_in_order(blocks, np.array(places, np.int64)))


def blocks_of(images: ImageSet) -> Blocks | None:
    """Return the blocks in which a set reads its files; None if it reads each file on its own."""
    return images.blocks() if isinstance(images, InBlocks) else None


def groups_in_order(
    blocks: Blocks, places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[np.ndarray]:
    """Divide images that are loaded in an order, where a block ends and 32 MiB are reached."""
    numbers, ends = blocks.numbers[places], np.cumsum(blocks.nbytes[places])
    block_ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
    start = 0
    for stop in block_ends.tolist():
        if ends[stop - 1] - (ends[start - 1] if start else 0) >= _AHEAD_BYTES or stop == len(places):
            yield places[start:stop]
            start = stop
