"""Part of a set of images as a set of its own: what is set aside to choose by."""

from __future__ import annotations

from collections.abc import Sequence

from flatvq.data.crops import evenly_spread
from flatvq.data.types import FileStatus, ImageSet, Pixels, Wanted, fingerprint_of, whole
from flatvq.errors import FlatvqError

__all__ = ["set_aside"]


def set_aside(images: ImageSet, share: float) -> tuple[ImageSet, ImageSet]:
    """Set a share of the images aside, spread evenly over the set, at least one.

    Args:
        images: at least two.
        share: how much, in (0, 1).

    Returns:
        What is left, at least one image, and what was set aside.

    Raises:
        FlatvqError: if there is but one image.

    Example:
        >>> from flatvq.data import open_data
        >>> from flatvq.recipe import DataRecipe
        >>> images = open_data(DataRecipe()).training
        >>> left, aside = set_aside(images, 0.2)
        >>> len(images) == len(left) + len(aside), bool(set(left.names) & set(aside.names))
        (True, False)
    """
    if len(images) < 2:
        raise FlatvqError("one training image cannot be divided", "add images")
    count = min(max(1, round(share * len(images))), len(images) - 1)
    aside = set(evenly_spread(len(images), count))
    left = [number for number in range(len(images)) if number not in aside]
    return _Part(images, left), _Part(images, sorted(aside))


class _Part:
    """Some images of a set."""

    def __init__(self, images: ImageSet, numbers: Sequence[int]) -> None:
        self._images, self._numbers = images, numbers
        self.names = tuple(images.names[number] for number in numbers)
        self.repeats = tuple(images.repeats[number] for number in numbers)
        self.digests = tuple(images.digests[number] for number in numbers)
        self.fingerprint = fingerprint_of(self.digests, self.repeats)

    @property
    def late_file_statuses(self) -> Sequence[FileStatus]:
        """Those of the whole set."""
        return self._images.late_file_statuses

    @property
    def decoded(self) -> bool:
        """Whether the whole set is in memory."""
        return self._images.decoded

    def __len__(self) -> int:
        return len(self._numbers)

    def load(self, index: int, wanted: Wanted = whole) -> Pixels:
        """Return one of the images, or a part of it."""
        return self._images.load(self._numbers[index], wanted)
