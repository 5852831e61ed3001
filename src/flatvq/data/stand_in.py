"""Load whole images. Training and evaluation replace an unreadable image by the next one of its set."""

from __future__ import annotations

from contextlib import suppress

from flatvq.data.types import ImageSet, Pixels, Region, UnreadableImageError
from flatvq.errors import FlatvqError

__all__ = ["load_exactly", "load_image", "none_readable"]


def load_exactly(images: ImageSet, index: int) -> Pixels:
    """Load a whole image. Another image does not take its place.

    Args:
        images: the set.
        index: the image.

    Returns:
        uint8 [H, W, 3], read-only.

    Raises:
        FlatvqError: if the image can no longer be read.
    """
    try:
        return _whole(images, index)
    except UnreadableImageError as error:
        raise FlatvqError(f"{error}, and was readable before", "run the command again") from None


def load_image(images: ImageSet, index: int) -> Pixels:
    """Load a whole image, or the next readable image of the set if it is unreadable.

    Args:
        images: the set.
        index: the image.

    Returns:
        uint8 [H, W, 3], read-only.

    Raises:
        FlatvqError: if no image of the set can be read.

    Example:
        >>> from flatvq.data import open_data
        >>> from flatvq.recipe import DataRecipe
        >>> load_image(open_data(DataRecipe()).validation, 0).shape
        (64, 64, 3)
    """
    for offset in range(len(images)):
        candidate = (index + offset) % len(images)
        with suppress(UnreadableImageError):
            return _whole(images, candidate)
    raise none_readable(images)


def _whole(images: ImageSet, index: int) -> Pixels:
    height, width = images.size_of(index)
    return images.load_region(index, Region(0, 0, height, width))


def none_readable(images: ImageSet) -> FlatvqError:
    """Return the error for a set of which every image turned out unreadable."""
    first = images.late_file_statuses[0]
    what = f"none of the {len(images)} {first.split} images can be read any more, such as '{first.name}'"
    return FlatvqError(f"{what} ({first.reason})", "check the disk")
