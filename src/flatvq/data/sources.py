"""Open the source of images that a recipe names."""

from __future__ import annotations

from dataclasses import replace

from flatvq.data.subset import set_aside
from flatvq.data.types import DataSplit
from flatvq.recipe import SOURCES, DataRecipe

__all__ = ["open_data"]


def open_data(recipe: DataRecipe) -> DataSplit:
    """Open the images of a recipe, divided into training images and held-out images.

    Args:
        recipe: the data section.

    Returns:
        Both splits, a pure function of the recipe and the files.

    Raises:
        FlatvqError: if the path does not exist or contains no usable image.
        MissingExtraError: if the source needs packages that are not installed.

    Example:
        >>> data = open_data(DataRecipe())
        >>> len(data.validation), data.validation.names[0]
        (121, 'astronaut@0,224')
    """
    data: DataSplit = SOURCES[recipe.source](recipe)
    if not recipe.tuning_share:
        return data
    training, aside = set_aside(data.training, recipe.tuning_share)
    held_out = f"{len(aside)} of {len(data.training)} training images are set aside for tuning"
    return replace(data, training=training, validation=aside, held_out=held_out)
