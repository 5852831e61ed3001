"""Divide a set of images into two subsets, such as training images and images for tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from flatvq.data.evaluated import evenly_spread
from flatvq.data.in_order import blocks_of
from flatvq.data.manifest import Array
from flatvq.data.selection import Texts
from flatvq.data.types import Blocks, FileStatus, ImageSet, InBlocks, Pixels, Region, fingerprint_of
from flatvq.errors import FlatvqError

__all__ = ["set_aside"]


def set_aside(images: ImageSet, share: float) -> tuple[ImageSet, ImageSet]:
    """Set a share of the images aside: at least one, spread evenly over the set.

    Args:
        images: at least two.
        share: the share to set aside, in (0, 1).

    Returns:
        The remaining images, at least one, and the images set aside.

    Raises:
        FlatvqError: if there is only one image.

    Example:
        >>> from flatvq.data import open_data
        >>> from flatvq.recipe import DataRecipe
        >>> images = open_data(DataRecipe()).training
        >>> remaining, aside = set_aside(images, 0.2)
        >>> len(images) == len(remaining) + len(aside), bool(set(remaining.names) & set(aside.names))
        (True, False)
    """
    if len(images) < 2:
        raise FlatvqError("one training image cannot be divided", "add training images")
    count = min(max(1, round(share * len(images))), len(images) - 1)
    is_aside = np.isin(np.arange(len(images)), evenly_spread(len(images), count))
    return _Subset(images, np.flatnonzero(~is_aside)), _Subset(images, np.flatnonzero(is_aside))


class _Subset:
    """Some images of a set."""

    def __init__(self, images: ImageSet, indices: Array) -> None:
        self._images, self._indices = images, indices
        self.names = Texts(len(indices), lambda index: images.names[indices[index]])
        self.repeats = tuple(images.repeats[index] for index in indices.tolist())
        self.digests = Texts(len(indices), lambda index: images.digests[indices[index]])
        self.fingerprint = fingerprint_of(self.digests, self.repeats)

    @property
    def late_file_statuses(self) -> Sequence[FileStatus]:
        """Those of the full set."""
        return self._images.late_file_statuses

    @property
    def decoded(self) -> bool:
        """Whether the full set is in memory."""
        return self._images.decoded

    def __len__(self) -> int:
        return len(self._indices)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image after scaling."""
        return self._images.size_of(int(self._indices[index]))

    def blocks(self) -> Blocks | None:
        """Return the blocks of these images; None if the full set reads each file on its own."""
        blocks = blocks_of(self._images)
        return None if blocks is None else blocks.of(self._indices)

    def upcoming(self, groups: Iterable[Array]) -> AbstractContextManager[None]:
        """Read files ahead within the context (`InBlocks.upcoming`)."""
        if not isinstance(self._images, InBlocks):
            return nullcontext()
        return self._images.upcoming(self._indices[group] for group in groups)

    def load_region(self, index: int, region: Region) -> Pixels:
        """Load a region of an image."""
        return self._images.load_region(int(self._indices[index]), region)
