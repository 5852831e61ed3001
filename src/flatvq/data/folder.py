"""Folders of images, with or without sub-folders and other files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from flatvq.data.conversion import Conversion
from flatvq.data.decoding import decode
from flatvq.data.manifest import survey
from flatvq.data.reasons import printable
from flatvq.data.splits import EVALUATED, Source, hold_out, keep_apart, usable
from flatvq.data.store import Decoder, StoredImages
from flatvq.data.types import DataSplit, FileStatus, ImageSet
from flatvq.data.walk import existing_folder, list_files
from flatvq.deprecation import renamed_attribute
from flatvq.recipe import DataRecipe

__all__ = ["OpenedFolder", "open_folder", "split_folder"]


@dataclass(frozen=True)
class OpenedFolder:
    """All images of a folder, for evaluation."""

    images: ImageSet
    """The images, in the order of their paths."""
    file_statuses: tuple[FileStatus, ...]
    """The files that were not used, or used with changes."""

    fates = renamed_attribute("fates", "file_statuses")


def open_folder(path: str | Path, crop: int, resize: int = 0, white_level: int = 0) -> OpenedFolder:
    """Open a folder to evaluate all of its images.

    Args:
        path: the folder.
        crop: pixels of the side of a crop; smaller images are enlarged to it.
        resize: pixels of the shorter side after scaling; 0 keeps the size of each image.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.

    Returns:
        The images, and the status of the other files.

    Raises:
        FlatvqError: if the folder does not exist, contains no readable image, or too many are unreadable.

    Example:
        >>> open_folder("nowhere", crop=64)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check the path
    """
    split, defaults = EVALUATED, DataRecipe()
    conversion = Conversion(crop, resize, white_level)
    source = _source(existing_folder(path, "the path"), conversion, split)
    decoder = Decoder(conversion, defaults.cache_mib)
    images = dict.fromkeys(source.survey.entries, decode)
    readable = usable(source, images, decoder, defaults.max_unreadable, split)
    converted = [entry.converted(split) for entry in readable.entries if entry.notes]
    return OpenedFolder(
        images=StoredImages(readable.entries, decoder, decode, split),
        file_statuses=(*source.survey.file_statuses, *readable.file_statuses, *converted),
    )


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
    surveyed = survey(listing.items, conversion, split)
    title = f"folder '{printable(str(folder))}'"
    return Source(title, replace(surveyed, file_statuses=(*listing.file_statuses, *surveyed.file_statuses)))
