"""Open the source of images that a recipe names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flatvq.data.folder import open_folder
from flatvq.data.shard_list import are_shards
from flatvq.data.shards import open_shards
from flatvq.data.splits import OpenedFolder
from flatvq.data.subset import set_aside
from flatvq.data.types import DataSplit
from flatvq.errors import FlatvqError
from flatvq.paths import require_no_credentials
from flatvq.recipe import SOURCES, DataRecipe

__all__ = ["open_data", "open_images"]


def open_images(
    path: str | Path,
    crop: int,
    resize: int = 0,
    white_level: int = 0,
    cache_mib: int | None = None,
    image_column: str = "image",
    image_suffix: str = "",
) -> OpenedFolder:
    """Open a folder of images, or shards, to evaluate all of its images.

    Args:
        path: the folder; or shards: a pattern or URL that ends in .tar or .parquet, or any other URL.
        crop: pixels of the side of a crop; smaller images are enlarged to it.
        resize: pixels of the shorter side after scaling; 0 keeps the size of each image.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        cache_mib: memory in MiB for decoded images; None for the default of recipes, 0 to decode an image
            each time it is loaded.
        image_column: the column of images in parquet shards.
        image_suffix: the suffix of images in tar shards; empty for all images.

    Returns:
        The images, and the status of the other files.

    Raises:
        FlatvqError: if there is no such folder or shard, it contains no readable image, too many are
            unreadable, a folder is given with a suffix, or a URL holds credentials.

    Example:
        >>> open_images("nowhere/*.tar", crop=64)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no .tar or .parquet shard at 'nowhere/*.tar': check the path
    """
    require_no_credentials(str(path))
    if not are_shards(str(path)):
        if image_suffix:
            what = f"--image-suffix {image_suffix} selects images of shards, and '{path}' is a folder"
            raise FlatvqError(what, "leave it out, or give a pattern or URL of .tar shards")
        if image_column != "image":
            what = f"--image-column {image_column} selects images of shards, and '{path}' is a folder"
            raise FlatvqError(what, "leave it out, or give a pattern or URL of .parquet shards")
        return open_folder(path, crop, resize, white_level, cache_mib)
    recipe = DataRecipe(source="shards", path=str(path), image_column=image_column, image_suffix=image_suffix)
    # A recipe has no crops below 16 pixels; here the crop is the smallest size alone.
    changes = {"crop": crop, "resize": resize, "white_level": white_level}
    if cache_mib is not None:
        changes["cache_mib"] = cache_mib
    return open_shards(recipe.model_copy(update=changes))


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
