"""The crops and images that are evaluated, in the order of their set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flatvq.data.in_order import reading_in_order
from flatvq.data.stand_in import load_image
from flatvq.data.types import ImageSet, Pixels, Region

__all__ = ["NamedCrop", "evaluation_crops", "evenly_spread", "whole_images"]


class NamedCrop(NamedTuple):
    """A crop to evaluate; unpacks as (name, pixels)."""

    name: str
    """The image that it was cut from."""
    pixels: Pixels
    """uint8 [crop, crop, 3]."""


def evaluation_crops(images: ImageSet, crop: int, limit: int | None = None) -> Iterator[NamedCrop]:
    """Cut the centre of every image, or of a limited number of images spread evenly over the set.

    Args:
        images: the images to cut from; none may be smaller than the crop.
        crop: pixels of the side.
        limit: maximum number of images; None for all.

    Yields:
        The name of each image and its centre, uint8 [crop, crop, 3], in the order of the set.

    Raises:
        FlatvqError: if no image can be read any more.

    Example:
        >>> from flatvq.data import open_data
        >>> from flatvq.recipe import DataRecipe
        >>> crops = evaluation_crops(open_data(DataRecipe()).validation, crop=64)
        >>> next(crops).pixels.shape
        (64, 64, 3)
    """
    for name, pixels in whole_images(images, limit):
        top, left = (pixels.shape[0] - crop) // 2, (pixels.shape[1] - crop) // 2
        yield NamedCrop(name, Region(top, left, crop, crop).of(pixels).copy())


def whole_images(images: ImageSet, limit: int | None = None) -> Iterator[tuple[str, Pixels]]:
    """Load every image, or a limited number of images spread evenly over the set.

    Args:
        images: the images.
        limit: maximum number of images; None for all.

    Yields:
        The name of each image and its pixels, uint8 [H, W, 3], read-only, in the order of the set.

    Raises:
        FlatvqError: if no image can be read any more.
    """
    places = evenly_spread(len(images), limit)
    with reading_in_order(images, places):
        for index in places:
            yield images.names[index], load_image(images, index)


def evenly_spread(total: int, limit: int | None) -> list[int]:
    """Return at most `limit` integers that are spread evenly over `range(total)`.

    Args:
        total: end of the range.
        limit: how many integers to return at most; None for all.

    Example:
        >>> evenly_spread(10, 4), evenly_spread(2, 4), evenly_spread(3, None)
        ([0, 2, 5, 7], [0, 1], [0, 1, 2])
    """
    if limit is None or limit >= total:
        return list(range(total))
    return [number * total // limit for number in range(limit)]
