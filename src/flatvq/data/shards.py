"""Sharded data sets of any size: tar files in the layout of WebDataset and parquet files, local or remote."""

from __future__ import annotations

import os

from flatvq.data.conversion import Conversion
from flatvq.data.reasons import printable
from flatvq.data.selection import selection
from flatvq.data.shard_files import ShardFiles
from flatvq.data.shard_index import index_shards
from flatvq.data.shard_list import list_shards
from flatvq.data.splits import EVALUATED, OpenedFolder, Source, hold_out, keep_apart, open_all
from flatvq.data.types import DataSplit
from flatvq.paths import expanded
from flatvq.recipe import DataRecipe

__all__ = ["open_shards", "split_shards"]


def open_shards(recipe: DataRecipe) -> OpenedFolder:
    """Open all images of shards, for evaluation.

    Args:
        recipe: the data section of a recipe, of which path, column, suffix, size, white level and memory are
            used.

    Raises:
        FlatvqError: if there is no shard, one is damaged or cannot be read, or no image is readable.
    """
    source = _source(recipe, recipe.path, "the path", EVALUATED)
    return open_all(source, Conversion.of(recipe), recipe.cache_mib, recipe.max_unreadable)


def split_shards(recipe: DataRecipe) -> DataSplit:
    """Open shards to train on, and hold out some of their images or the images of other shards.

    Args:
        recipe: the data section of the recipe; `path` and `validation_path` name shards.

    Returns:
        Both splits. Their images are read in blocks when they are needed.

    Raises:
        FlatvqError: if there is no shard, or one is damaged, cannot be read, or has blocks too large for
            `shuffle_mib`.
    """
    if not recipe.validation_path:
        return hold_out(_source(recipe, recipe.path, "data.path", ""), recipe)
    training = _source(recipe, recipe.path, "data.path", "training")
    validation = _source(recipe, recipe.validation_path, "data.validation_path", "validation")
    return keep_apart(training, validation, recipe)


def _source(recipe: DataRecipe, pattern: str, key: str, split: str) -> Source:
    """Index the shards of a pattern; `key` names it in errors, `split` in file statuses."""
    shards = list_shards(pattern, key)
    # abspath() removes "..", and keeps links, which resolve() would follow.
    location = pattern if "://" in pattern else os.path.abspath(expanded(pattern))  # noqa: PTH100
    survey = index_shards(
        location, shards, recipe.image_column, recipe.image_suffix, Conversion.of(recipe), split
    )
    files = ShardFiles(shards, survey.manifest, recipe.image_column, recipe.shuffle_mib)
    if split in ("", "training"):
        files.require_memory("data.shuffle_mib")
    title = f"shards '{printable(pattern)}'"
    return Source(title, selection(survey.manifest, files), survey.file_statuses, survey.remedies)
