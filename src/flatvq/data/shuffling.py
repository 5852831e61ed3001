"""The order of an epoch: a permutation of all images, or of images that are read in blocks.

Images in blocks are shuffled in windows, so that a process needs few bytes at a time:

1. The blocks are permuted, and the images of each block.
2. Blocks that follow each other form a window, as many as fit its bytes. No block is divided.
3. The images of a window are dealt to its places, which belong to positions of batches: the first position
   gets the first images, one for each batch, the next position the images after them, and so on.

So a batch has images from all blocks of its window, and a process, which gets consecutive positions, reads
its own part of the blocks alone. The order does not depend on the number of processes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from flatvq.data.manifest import Array
from flatvq.data.types import Blocks

__all__ = ["Order", "shuffled"]


class Order(NamedTuple):
    """The order of an epoch of N images."""

    images: Array
    """int64 [N], the image at each place."""
    windows: Array
    """int64, the first place of each window, and N."""


def shuffled(blocks: Blocks, random: np.random.Generator, first: int, batch_size: int) -> Order:
    """Shuffle images that are read in blocks.

    Args:
        blocks: the blocks of N images.
        random: the source of random numbers, for this epoch alone.
        first: the number of draws before the epoch; with the batch size, it gives the position of each place.
        batch_size: images in a batch, over all processes.

    Returns:
        The order. Each image has one place.

    Example:
        >>> blocks = Blocks(np.repeat([5, 7, 8], 2), np.full(6, 10), window_bytes=40)
        >>> order = shuffled(blocks, np.random.default_rng(0), first=0, batch_size=2)
        >>> order.images.tolist(), order.windows.tolist()
        ([2, 5, 3, 4, 1, 0], [0, 4, 6])
    """
    _, numbers = np.unique(blocks.numbers, return_inverse=True)
    count = int(numbers.max()) + 1
    rank = random.permutation(count)[numbers]
    order = np.lexsort([random.permutation(len(numbers)), rank])
    nbytes = np.bincount(rank, blocks.nbytes, count).astype(np.int64)
    ends = np.cumsum(np.bincount(rank, minlength=count))
    windows = np.concatenate([[0], ends[_last_blocks(nbytes, blocks.window_bytes)]])
    images = np.empty_like(order)
    for start, stop in pairwise(windows.tolist()):
        positions = (first + np.arange(start, stop)) % batch_size
        images[start + np.argsort(positions, kind="stable")] = order[start:stop]
    return Order(images, windows)


def _last_blocks(nbytes: Array, most: int) -> list[int]:
    """Return the last block of each window: as many blocks as have at most this many bytes, at least one."""
    ends = np.cumsum(nbytes)
    lasts: list[int] = []
    while not lasts or lasts[-1] + 1 < len(nbytes):
        first = lasts[-1] + 1 if lasts else 0
        stop = int(np.searchsorted(ends, ends[first] - nbytes[first] + most, side="right"))
        lasts.append(max(stop - 1, first))
    return lasts
