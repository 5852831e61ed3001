"""Any folder of images: nested or not, whatever else lies in it."""

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
from flatvq.recipe import DataRecipe

__all__ = ["OpenedFolder", "open_folder", "split_folder"]


@dataclass(frozen=True)
class OpenedFolder:
    """All the images of a folder, for evaluation."""

    images: ImageSet
    """In the order of their paths."""
    file_statuses: tuple[FileStatus, ...]
    """Every file that was not used as it is."""


def open_folder(path: str | Path, crop: int, resize: int = 0, white_level: int = 0) -> OpenedFolder:
    """Open a folder whose images are all evaluated.

    Args:
        path: the folder.
        crop: pixels of the side of a crop; smaller images are enlarged to it.
        resize: pixels of the shorter side to scale to; 0 keeps an image's own size.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the largest.

    Returns:
        The images, and what became of the other files.

    Raises:
        FlatvqError: if there is no such folder, it holds no readable image, or most of them are unreadable.

    Example:
        >>> open_folder("nowhere", crop=64)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check the path
    """
    split, defaults = EVALUATED, DataRecipe()
    conversion = Conversion(crop, resize, white_level)
    source = _source(existing_folder(path, "the path"), conversion, split)
    decoder = Decoder(conversion, defaults.cache_mib)
    wanted = dict.fromkeys(source.survey.entries, decode)
    found = usable(source, wanted, decoder, defaults.max_unreadable, split)
    converted = [entry.converted(split) for entry in found.entries if entry.notes]
    return OpenedFolder(
        images=StoredImages(found.entries, decoder, decode, split),
        file_statuses=(*source.survey.file_statuses, *found.file_statuses, *converted),
    )


def split_folder(recipe: DataRecipe) -> DataSplit:
    """Open a folder to train on, and hold images out by their content, or open a second one for that.

    Args:
        recipe: the data section of the recipe; `path` and `validation_path` are folders.

    Returns:
        Both sides.

    Raises:
        FlatvqError: if a folder is absent, or has nothing to offer.
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
    found = survey(listing.items, conversion, split)
    title = f"folder '{printable(str(folder))}'"
    return Source(title, replace(found, file_statuses=(*listing.file_statuses, *found.file_statuses)))
