"""Open Hugging Face datasets from the hub, from local files, or as written by `save_to_disk`."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatvq.data.reasons import printable, reason_of
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.paths import expanded
from flatvq.recipe import DataRecipe

__all__ = ["OpenedDataset", "open_dataset", "quiet"]

# `DatasetDict.save_to_disk` writes the first of these files, `Dataset.save_to_disk` the second.
_SAVED_SPLITS, _SAVED_ROWS = "dataset_dict.json", "state.json"


@dataclass(frozen=True)
class OpenedDataset:
    """An opened Hugging Face dataset."""

    title: str
    """Such as `dataset 'photos'`."""
    splits: Mapping[str, Any]
    """The rows of each split: a `datasets.Dataset`, or an `IterableDataset` if the dataset is streamed."""
    folder: Path
    """The folder to which paths in the dataset are relative. It exists only for a local dataset."""


def open_dataset(recipe: DataRecipe) -> OpenedDataset:
    """Open all splits of a dataset.

    Args:
        recipe: the data section of the recipe, of which the path, configuration and streaming are used.

    Raises:
        FlatvqError: if the dataset cannot be opened, or the recipe does not name one of several
            configurations.
    """
    folder = expanded(recipe.path)
    path = str(folder) if recipe.path.startswith("~") else recipe.path
    title = f"dataset '{printable(recipe.path)}'"
    saved = any((folder / name).is_file() for name in (_SAVED_SPLITS, _SAVED_ROWS))
    try:
        if saved:
            return _saved(recipe, folder, title)
        return OpenedDataset(title, _load(path, recipe), folder)
    except FlatvqError:
        raise
    except Exception as error:
        if not saved:
            _check_configuration(path, recipe, title)
        what = f"cannot open {title} ({reason_of(error)})"
        raise FlatvqError(what, "check data.path: a folder, or the name of a dataset on the hub") from None


def _load(path: str, recipe: DataRecipe) -> Any:
    import datasets

    return datasets.load_dataset(path, recipe.configuration or None, streaming=recipe.streaming)


def _saved(recipe: DataRecipe, folder: Path, title: str) -> OpenedDataset:
    """Open a dataset written by `save_to_disk`. Rows without splits become the recipe's split."""
    import datasets

    if recipe.configuration:
        what = f"{title} was written by save_to_disk and has no configurations"
        raise FlatvqError(what, "leave data.configuration empty")
    splits = datasets.load_from_disk(str(folder))
    if isinstance(splits, datasets.Dataset):
        if recipe.validation_path:
            what = f"{title} was saved without splits, so it has no split {recipe.validation_path!r}"
            raise FlatvqError(what, "leave data.validation_path empty, or save a DatasetDict")
        title += " (saved without splits)"
        splits = {recipe.split: splits}
    return OpenedDataset(title, splits, folder)


def _check_configuration(path: str, recipe: DataRecipe, title: str) -> None:
    """Raise if a dataset did not open because its configuration is missing or unknown."""
    import datasets

    try:
        names = datasets.get_dataset_config_names(path)
    except Exception:  # the caller reports that the dataset cannot be opened
        return
    if recipe.configuration and recipe.configuration not in names:
        what = f"{title} has no configuration {recipe.configuration!r}"
    elif not recipe.configuration and len(names) > 1:
        what = f"{title} has several configurations"
    else:
        return
    raise FlatvqError(what, f"set data.configuration to one of {', '.join(map(printable, names))}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Import `datasets`, and disable its progress bars, logs, warnings and telemetry within the block.

    Raises:
        MissingExtraError: if the package `datasets` is not installed.
    """
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
