"""Divide a set of images into two subsets, such as training images and images for tuning."""

from __future__ import annotations

from collections.abc import Sequence

from flatvq.data.crops import evenly_spread
from flatvq.data.types import FileStatus, ImageSet, Pixels, Region, fingerprint_of
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
        raise FlatvqError("one training image cannot be divided", "add images")
    count = min(max(1, round(share * len(images))), len(images) - 1)
    aside = set(evenly_spread(len(images), count))
    remaining = [index for index in range(len(images)) if index not in aside]
    return _Subset(images, remaining), _Subset(images, sorted(aside))


class _Subset:
    """Some images of a set."""

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        self._images, self._indices = images, indices
        self.names = tuple(images.names[index] for index in indices)
        self.repeats = tuple(images.repeats[index] for index in indices)
        self.digests = tuple(images.digests[index] for index in indices)
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
        return self._images.size_of(self._indices[index])

    def load_region(self, index: int, region: Region) -> Pixels:
        """Load a region of an image."""
        return self._images.load_region(self._indices[index], region)
