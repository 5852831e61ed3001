"""Folders of images, with or without sub-folders and other files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flatvq.data.conversion import Conversion
from flatvq.data.manifest import survey
from flatvq.data.reasons import printable
from flatvq.data.splits import EVALUATED, OpenedFolder, Source, hold_out, keep_apart, open_all
from flatvq.data.survey_cache import FEWEST_FILES, SurveyCache
from flatvq.data.types import DataSplit
from flatvq.data.walk import existing_folder, list_files
from flatvq.recipe import DataRecipe

__all__ = ["open_folder", "split_folder"]


def open_folder(
    path: str | Path, crop: int, resize: int = 0, white_level: int = 0, cache_mib: int | None = None
) -> OpenedFolder:
    """Open a folder to evaluate all of its images.

    Args:
        path: the folder.
        crop: pixels of the side of a crop; smaller images are enlarged to it.
        resize: pixels of the shorter side after scaling; 0 keeps the size of each image.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        cache_mib: memory in MiB for decoded images; None for the default of recipes, 0 to decode an image
            each time it is loaded.

    Returns:
        The images, and the status of the other files.

    Raises:
        FlatvqError: if the folder does not exist, contains no readable image, or too many are unreadable.

    Example:
        >>> open_folder("nowhere", crop=64)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check the path
    """
    conversion, defaults = Conversion(crop, resize, white_level), DataRecipe()
    source = _source(existing_folder(path, "the path"), conversion, EVALUATED)
    cache_mib = defaults.cache_mib if cache_mib is None else cache_mib
    return open_all(source, conversion, cache_mib, defaults.max_unreadable)


def split_folder(recipe: DataRecipe) -> DataSplit:
    """Open a folder to train on, and hold out some of its images or those of a second folder.

    Args:
        recipe: the data section of the recipe; `path` and `validation_path` are folders.

    Returns:
        Both splits.

    Raises:
        FlatvqError: if a folder does not exist or contains no usable image.
    """
    conversion = Conversion.of(recipe)
    path = existing_folder(recipe.path, "data.path")
    if not recipe.validation_path:
        return hold_out(_source(path, conversion, ""), recipe)
    held_out = existing_folder(recipe.validation_path, "data.validation_path")
    return keep_apart(
        _source(path, conversion, "training"), _source(held_out, conversion, "validation"), recipe
    )


def _source(folder: Path, conversion: Conversion, split: str) -> Source:
    listing = list_files(folder, split)
    cache = SurveyCache(folder, conversion) if len(listing.items) >= FEWEST_FILES else None
    surveyed = survey(listing.items, conversion, split, cache)
    title = f"folder '{printable(str(folder))}'"
    return Source(title, replace(surveyed, file_statuses=(*listing.file_statuses, *surveyed.file_statuses)))
