"""Datasets of the Hugging Face kind: a folder of parquet or tar files, an image folder, a name on the hub."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from flatvq.data.assembly import Source, hold_out, keep_apart
from flatvq.data.conversion import Conversion
from flatvq.data.entries import Item, digest_of, survey
from flatvq.data.holdout import is_held_out
from flatvq.data.sets import DataSplit
from flatvq.data.walk import printable
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.recipe import DataRecipe

__all__ = ["split_dataset"]

_MIB = 2**20


def split_dataset(recipe: DataRecipe) -> DataSplit:
    """Open a dataset to train on, and hold images out by their content, or take another split for that.

    A stream is read until it ends or `limit` training images are found; its files are kept in memory as they
    came, encoded. A stored dataset stays where it is.

    Args:
        recipe: the data section of the recipe; `path` names the dataset, `validation_path` a split of it.

    Returns:
        Both sides.

    Raises:
        MissingExtraError: if the package `datasets` is not installed.
        FlatvqError: if there is no such dataset, split or column, or a stream does not fit the cache.
    """
    if not recipe.path:
        raise FlatvqError(
            "data.path is empty", "set data.path to the name or folder of a Hugging Face dataset"
        )
    with _quiet():
        splits = _load(recipe)
        if not recipe.validation_path:
            return hold_out(_source(splits, recipe, recipe.split, side=""), recipe)
        training = _source(splits, recipe, recipe.split, side="training")
        return keep_apart(
            training, _source(splits, recipe, recipe.validation_path, side="validation"), recipe
        )


def _load(recipe: DataRecipe) -> Any:
    """Open all splits; whatever `datasets` raises on the way becomes one line."""
    import datasets

    path = str(Path(recipe.path).expanduser()) if recipe.path.startswith("~") else recipe.path
    try:
        return datasets.load_dataset(path, streaming=recipe.streaming)
    except Exception as error:
        what = f"cannot open dataset '{printable(recipe.path)}' ({_first_line(error)})"
        raise FlatvqError(what, "check data.path: a folder, or the name of a dataset on the hub") from None


def _source(splits: Any, recipe: DataRecipe, split: str, side: str) -> Source:
    """Look through one split."""
    title = f"dataset '{printable(recipe.path)}'"
    if split not in splits:
        raise FlatvqError(f"{title} has no split {split!r}", f"its splits are {', '.join(map(str, splits))}")
    title += f" split '{split}'"
    rows = _image_rows(splits[split], recipe.image_column, title)
    if recipe.streaming:
        items = _streamed(rows, recipe, split, side)
    else:
        items = [
            Item(f"{split}/{row}", partial(_open_row, rows, row), claimed=True) for row in range(len(rows))
        ]
    return Source(title, survey(items, Conversion.of(recipe), side))


def _image_rows(rows: Any, column: str, title: str) -> Any:
    """Select the one column of images, as encoded files."""
    import datasets

    features = rows.features or {}
    if column not in features:
        raise FlatvqError(
            f"{title} has no column {column!r}", f"set data.image_column; it has {', '.join(features)}"
        )
    rows, feature = rows.select_columns(column), features[column]
    if isinstance(feature, datasets.Image):
        return rows.cast_column(column, datasets.Image(decode=False))
    encoded = isinstance(feature, dict) and "bytes" in feature
    if not encoded and getattr(feature, "dtype", "") not in {"binary", "large_binary"}:
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        remedy = (
            f"set data.image_column; {'images are in ' + ', '.join(images) if images else 'no column does'}"
        )
        raise FlatvqError(f"column {column!r} of {title} holds no images ({feature})", remedy)
    return rows


def _streamed(rows: Any, recipe: DataRecipe, split: str, side: str) -> list[Item]:
    """Read a stream into memory, up to the limit of training images."""
    items: list[Item] = []
    counts = _counts_as_training(recipe, side)
    trained, room = 0, recipe.cache_mib * _MIB
    for number, row in enumerate(_guarded(rows, split)):
        encoded = _encoded(row)
        room -= len(encoded)
        if room < 0:
            what = (
                f"split {split!r} streams more than data.cache_mib {recipe.cache_mib} holds: {number} images"
            )
            raise FlatvqError(
                what, "set data.limit lower, raise data.cache_mib, or set data.streaming to false"
            )
        items.append(Item(f"{split}/{number}", partial(BytesIO, encoded), claimed=True))
        trained += counts(encoded)
        if recipe.limit and trained == recipe.limit:
            break
    return items


def _counts_as_training(recipe: DataRecipe, side: str) -> Callable[[bytes], bool]:
    """Say which images of a stream count towards the limit: not those that will be held out."""
    if side:
        return lambda encoded: side == "training"
    return lambda encoded: not is_held_out(digest_of(BytesIO(encoded)), recipe.validation_share)


def _guarded(rows: Any, split: str) -> Iterator[Any]:
    """Go through a stream; whatever breaks it becomes one line."""
    try:
        yield from rows
    except Exception as error:
        raise FlatvqError(
            f"the stream of split {split!r} broke ({_first_line(error)})", "check its files"
        ) from None


def _open_row(rows: Any, row: int) -> BytesIO:
    return BytesIO(_encoded(rows[row]))


def _encoded(row: dict[str, Any]) -> bytes:
    """Return the encoded file in a row of one column; empty where there is none."""
    (cell,) = row.values()
    if isinstance(cell, bytes):
        return cell
    if cell and cell.get("bytes"):
        return bytes(cell["bytes"])
    if cell and cell.get("path"):
        import fsspec  # type: ignore[import-untyped]

        with fsspec.open(cell["path"], "rb") as stream:
            return bytes(stream.read())
    return b""


@contextmanager
def _quiet() -> Iterator[None]:
    """Import `datasets` and keep its bars, log lines, warnings and telemetry to itself for a while."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            import datasets
            from huggingface_hub import utils as hub
        except ImportError:
            raise MissingExtraError("Hugging Face datasets", "the package datasets", extra="data") from None
        for bars in (datasets, hub):
            if not bars.are_progress_bars_disabled():
                bars.disable_progress_bars()
                stack.callback(bars.enable_progress_bars)
        for name in ("datasets", "huggingface_hub"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        yield


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return printable(f"{type(error).__name__}: {lines[0]}"[:200])
