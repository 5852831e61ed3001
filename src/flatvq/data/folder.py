"""Folders of images, with or without sub-folders and other files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flatvq.data.conversion import Conversion
from flatvq.data.manifest import Array, Manifest, joined, manifest_of
from flatvq.data.reasons import printable
from flatvq.data.selection import selection
from flatvq.data.splits import EVALUATED, OpenedFolder, Source, hold_out, keep_apart, open_all
from flatvq.data.survey import Item, Survey, survey
from flatvq.data.survey_cache import FEWEST_FILES, SurveyCache, settled_before
from flatvq.data.types import DataSplit
from flatvq.data.walk import FILE_TIMES, Listing, claims_an_image, existing_folder, list_files
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
    """Open a folder to train on, and hold out some of its images or the images of a second folder.

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


@dataclass(frozen=True, eq=False)
class _FolderFiles:
    """The files of a manifest whose paths are relative to a folder."""

    folder: Path
    manifest: Manifest

    def open(self, row: int, /) -> BinaryIO:
        return _open(self.folder / os.fsdecode(self.manifest.paths[row].as_py()))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _source(folder: Path, conversion: Conversion, split: str) -> Source:
    import pyarrow as pa

    listing = list_files(folder, split)
    cache = None
    if len(listing.paths) >= FEWEST_FILES:
        cache = SurveyCache(os.path.realpath(folder), conversion, FILE_TIMES)
    surveyed = _survey(folder, listing, conversion, split, cache)
    file_statuses = (*listing.file_statuses, *surveyed.file_statuses)
    if cache is not None:
        del listing  # its memory, a hundred bytes for each file, goes back to the system
        pa.default_memory_pool().release_unused()
    return Source(
        title=f"folder '{printable(str(folder))}'",
        images=selection(surveyed.manifest, _FolderFiles(folder, surveyed.manifest)),
        file_statuses=file_statuses,
        remedies=surveyed.remedies,
    )


def _survey(
    folder: Path, listing: Listing, conversion: Conversion, split: str, cache: SurveyCache | None
) -> Survey:
    """Survey the files of a folder that are new or have changed since the last survey, and join both."""
    last = cache.get() if cache is not None else None
    known = last[0] if last else manifest_of([], [], {name: np.empty(0, np.int64) for name in FILE_TIMES})
    rows = _known_rows(listing, known)
    unknown = np.flatnonzero(rows < 0)
    paths = map(listing.path, unknown.tolist())
    items = (Item(path, partial(_open, folder / path), claims_an_image(path)) for path in paths)
    surveyed = survey(items, conversion, split)
    kept = rows[rows >= 0]
    if len(kept) != len(known) or (kept[1:] < kept[:-1]).any():
        known = known.at(kept)
    if not len(surveyed.manifest):
        return replace(surveyed, manifest=known)
    files = unknown[surveyed.manifest.places["file"]]
    times = {name: listing.times[name][files] for name in FILE_TIMES}
    order = np.argsort(np.concatenate([np.flatnonzero(rows >= 0), files]), kind="stable")
    manifest = joined([known, replace(surveyed.manifest, places=times)]).at(order)
    if cache is not None:
        cache.put(manifest.at(np.flatnonzero(manifest.places["ctime_ns"] < settled_before(cache.started))))
    return replace(surveyed, manifest=manifest)


def _known_rows(listing: Listing, known: Manifest) -> Array:
    """Return the row of each file in a manifest, int64 [N]; -1 for a file that is new or has changed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if listing.paths.equals(known.paths):
        rows = np.arange(len(known))
    else:
        places = pc.index_in(listing.paths, value_set=known.paths)
        rows = places.fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    is_known = rows >= 0
    for name in FILE_TIMES:
        is_known[is_known] = known.places[name][rows[is_known]] == listing.times[name][is_known]
    return np.where(is_known, rows, -1)
