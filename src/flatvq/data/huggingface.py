"""Hugging Face datasets: a folder of parquet or tar files, an image folder, or a name on the hub."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from flatvq.data.conversion import Conversion
from flatvq.data.holdout import is_held_out
from flatvq.data.loading import OpenedDataset, open_dataset, quiet
from flatvq.data.manifest import Array
from flatvq.data.reasons import reason_of
from flatvq.data.selection import selection
from flatvq.data.splits import EVALUATED, OpenedFolder, Source, hold_out, keep_apart, open_all
from flatvq.data.survey import Item, digest_of, survey
from flatvq.data.types import DataSplit
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

__all__ = ["open_split", "split_dataset"]

_MIB = 2**20
_PATHS = {"string", "large_string"}
_BYTES = {"binary", "large_binary"}


def open_split(recipe: DataRecipe) -> OpenedFolder:
    """Open all images of one split of a dataset, for evaluation.

    Args:
        recipe: the data section of a recipe, of which path, configuration, split, column, size, white level
            and cache are used.

    Raises:
        MissingExtraError: if the package `datasets` is not installed.
        FlatvqError: if the dataset, configuration, split or column does not exist, or no image is readable.
    """
    with quiet():
        source = _source(open_dataset(recipe), recipe, recipe.split, side=EVALUATED)
    return open_all(source, Conversion.of(recipe), recipe.cache_mib, recipe.max_unreadable)


def split_dataset(recipe: DataRecipe) -> DataSplit:
    """Open a dataset to train on, and hold out some of its images or the images of another split.

    A stream is read until it ends or contains `limit` training images, and its encoded files are kept in
    memory. The files of a stored dataset are read when they are needed.

    Args:
        recipe: the data section of the recipe; `path` names the dataset, `validation_path` a split of it.

    Returns:
        Both splits.

    Raises:
        MissingExtraError: if the package `datasets` is not installed.
        FlatvqError: if the dataset, configuration, split or column does not exist, or a stream does not fit
            the cache.
    """
    if not recipe.path:
        raise FlatvqError(
            "data.path is empty", "set data.path to the name or folder of a Hugging Face dataset"
        )
    with quiet():
        dataset = open_dataset(recipe)
        if not recipe.validation_path:
            return hold_out(_source(dataset, recipe, recipe.split, side=""), recipe)
        training = _source(dataset, recipe, recipe.split, side="training")
        return keep_apart(
            training, _source(dataset, recipe, recipe.validation_path, side="validation"), recipe
        )


def _source(dataset: OpenedDataset, recipe: DataRecipe, split: str, side: str) -> Source:
    """Survey one split of a dataset; `side` is its name in file statuses."""
    if split not in dataset.splits:
        what = f"{dataset.title} has no split {split!r}"
        raise FlatvqError(what, f"its splits are {', '.join(map(str, dataset.splits))}")
    title = f"{dataset.title} split '{split}'"
    rows = _image_rows(dataset.splits[split].with_format(None), recipe.image_column, title)
    if recipe.streaming:
        items = _streamed(rows, dataset.folder, recipe, split, side)
        item_of: Callable[[int], Item] = items.__getitem__
        count = len(items)
    else:
        item_of, count = partial(_stored, rows, dataset.folder, split), len(rows)
    surveyed = survey(map(item_of, range(count)), Conversion.of(recipe), side)
    images = selection(surveyed.manifest, _Files(item_of, surveyed.manifest.places["file"]))
    return Source(title, images, surveyed.file_statuses, surveyed.remedies)


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of a manifest, by their numbers."""

    item_of: Callable[[int], Item]
    numbers: Array

    def open(self, row: int, /) -> BinaryIO:
        return self.item_of(int(self.numbers[row])).open()


def _image_rows(rows: Any, column: str, title: str) -> Any:
    """Select the column of images, as encoded files or paths of files."""
    import datasets

    features = rows.features or {}
    if column not in features:
        raise FlatvqError(
            f"{title} has no column {column!r}", f"set data.image_column; it has {', '.join(features)}"
        )
    rows, feature = rows.select_columns(column), features[column]
    if isinstance(feature, datasets.Image):
        return rows.cast_column(column, datasets.Image(decode=False))
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    kind = getattr(feature, "dtype", "")
    fields = isinstance(feature, dict) and not {"bytes", "path"}.isdisjoint(feature)
    # Strings may be paths, unless another column contains images.
    if fields or kind in _BYTES or (kind in _PATHS and not images):
        return rows
    remedy = f"set data.image_column; {'images are in ' + ', '.join(images) if images else 'no column does'}"
    raise FlatvqError(f"column {column!r} of {title} holds no images ({feature})", remedy)


def _streamed(rows: Any, folder: Path, recipe: DataRecipe, split: str, side: str) -> list[Item]:
    """Read a stream into memory, up to the limit of training images."""
    items: list[Item] = []
    is_for_training = _training_test(recipe, side)
    training_images, free_bytes = 0, recipe.cache_mib * _MIB
    with closing(_rows_of(rows, split)) as stream:
        for number, row in enumerate(stream):
            name = f"{split}/{number}"
            try:
                encoded = _encoded(row, folder)
            except Exception as error:  # such as a path of a missing file
                items.append(Item(name, partial(_fail, error), claimed=True))
                continue
            free_bytes -= len(encoded)
            if free_bytes < 0:
                limit = f"data.cache_mib {recipe.cache_mib}"
                raise FlatvqError(
                    f"split {split!r} streams more than {limit} holds: {number} images",
                    "set data.limit lower, or set data.streaming to false, or use data.source shards",
                )
            items.append(Item(name, partial(BytesIO, encoded), claimed=True))
            training_images += is_for_training(encoded)
            if recipe.limit and training_images == recipe.limit:
                break
    return items


def _training_test(recipe: DataRecipe, side: str) -> Callable[[bytes], bool]:
    """Return a function that tests whether an encoded image counts towards the limit of training images."""
    if side:
        return lambda encoded: side == "training"
    return lambda encoded: not is_held_out(digest_of(BytesIO(encoded)), recipe.validation_share)


def _rows_of(rows: Any, split: str) -> Generator[Any, None, None]:
    """Iterate over a stream. Any exception becomes a `FlatvqError`."""
    try:
        yield from rows
    except Exception as error:
        what = f"the stream of split {split!r} broke ({reason_of(error)})"
        raise FlatvqError(what, "check its files") from None


def _stored(rows: Any, folder: Path, split: str, row: int) -> Item:
    return Item(f"{split}/{row}", partial(_open_row, rows, row, folder), claimed=True)


def _open_row(rows: Any, row: int, folder: Path) -> BytesIO:
    return BytesIO(_encoded(rows[row], folder))


def _fail(error: Exception) -> NoReturn:
    raise error


def _encoded(row: dict[str, Any], folder: Path) -> bytes:
    """Return the encoded file in a row of one column; empty if there is none.

    Args:
        row: its only cell is the encoded file, its path, or a dictionary of `bytes` and `path`.
        folder: paths are relative to it if that file exists, and otherwise to the working folder.
    """
    (cell,) = row.values()
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(content, str):
        content, path = None, content
    if content:
        return bytes(content)
    if not path:
        return b""
    import fsspec  # type: ignore[import-untyped]

    in_folder = folder / path
    with fsspec.open(str(in_folder) if in_folder.is_file() else path, "rb") as stream:
        return bytes(stream.read())
