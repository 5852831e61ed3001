"""PyTorch datasets of codes: one with random access, and one that streams row groups.

Memory is bounded by row groups of 64 images, in each worker of a `DataLoader`.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from flatvq.codes.manifest import CodeManifest, read_manifest
from flatvq.codes.row_groups import RowGroup, read_row_group, row_groups_of
from flatvq.codes.shards import Row
from flatvq.errors import FlatvqError
from flatvq.quantize.checks import whole_number
from flatvq.tokenizers import TokenizerLevel

__all__ = ["CodeDataset", "CodeStream", "Codes", "complete_manifest"]


class Codes(TypedDict):
    """The codes of one image."""

    key: str
    """The name of the image in its data set."""
    size: tuple[int, int]
    """Rows and columns of pixels of the encoded image."""
    levels: tuple[Tensor, ...]
    """int64 [*index_shape, h, w] for each level, bottom first."""


class _Folder:
    """A folder of shards."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = complete_manifest(self.folder)
        self._groups = tuple(row_groups_of(self.manifest))

    @property
    def levels(self) -> tuple[TokenizerLevel, ...]:
        """The levels of the tokenizer, bottom first."""
        return self.manifest.tokenizer_levels

    def _read(self, group: RowGroup) -> list[Row]:
        return read_row_group(self.folder, group, self.manifest)


class CodeDataset(_Folder, Dataset[Codes]):
    """The codes that `flatvq encode` wrote, with random access; a `torch.utils.data.Dataset`.

    An access reads the row group of the image and keeps the last few row groups, so neighbouring images are
    read once. To read all images in random order, `CodeStream` is faster.

    Args:
        folder: the folder of the shards and manifest.json.
        cached_row_groups: how many row groups each worker keeps in memory.

    Raises:
        FlatvqError: if the manifest is missing or damaged, or some shards are not encoded yet.

    Example:
        With `tokenizer.levels`, the sizes of the vocabularies of a generator are known:

        >>> CodeDataset("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no manifest.json in 'nowhere': give a folder that `flatvq encode` wrote
    """

    def __init__(self, folder: str | Path, *, cached_row_groups: int = 8) -> None:
        super().__init__(folder)
        self.cached_row_groups = cached_row_groups
        self._ends = list(accumulate(group.rows for group in self._groups))
        self._cache: OrderedDict[int, list[Row]] = OrderedDict()

    def __len__(self) -> int:
        return self.manifest.rows

    def __getitem__(self, index: int) -> Codes:
        """Return the codes of an image.

        Args:
            index: the position of the image in the data set; negative from the end.

        Raises:
            IndexError: if there is no such image.
            FlatvqError: if the index is not a whole number, or the shard is missing, damaged or changed.
        """
        try:
            number = operator.index(index)
        except TypeError:
            what = f"index {index!r} is not a whole number"
            raise FlatvqError(
                what, "for several images, use torch.utils.data.Subset or a DataLoader"
            ) from None
        position = number + len(self) if number < 0 else number
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        group = bisect_right(self._ends, position)
        rows = self._rows(group)
        return _codes(rows[position - self._ends[group]])

    def _rows(self, number: int) -> list[Row]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        self._cache[number] = rows = self._read(self._groups[number])
        while len(self._cache) > max(1, self.cached_row_groups):
            self._cache.popitem(last=False)
        return rows

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache out when the dataset is sent to a worker."""
        return {**self.__dict__, "_cache": OrderedDict()}


class CodeStream(_Folder, IterableDataset[Codes]):
    """The codes that `flatvq encode` wrote, row group by row group; a `torch.utils.data.IterableDataset`.

    Each worker of a `DataLoader`, and each process of a training, reads different images. The shares of the
    processes, and of the workers of a process, differ by at most one image.

    Args:
        folder: the folder of the shards and manifest.json.
        seed: shuffles row groups, and the images of each row group, in another order in each epoch; None for
            the order of the data set.
        rank: the number of this process.
        world_size: the number of processes.

    Raises:
        FlatvqError: if `seed` is negative, `rank` is not below `world_size`, the manifest is missing or
            damaged, or some shards are not encoded yet.

    Example:
        >>> CodeStream("nowhere", seed=0)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no manifest.json in 'nowhere': give a folder that `flatvq encode` wrote
    """

    def __init__(
        self, folder: str | Path, *, seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(folder)
        self.seed = None if seed is None else whole_number("seed", seed, 0)
        self.world_size = whole_number("world_size", world_size, 1)
        self.rank = whole_number("rank", rank, 0, self.world_size - 1)
        epoch: Any = torch.zeros((), dtype=torch.int64)
        self._epoch: Tensor = epoch.share_memory_()  # workers that persist see its changes

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch. Call it before each iteration.

        Args:
            epoch: the number of the epoch.

        Raises:
            FlatvqError: if it is not a whole number of 0 or more.
        """
        self._epoch.fill_(whole_number("epoch", epoch, 0))

    def __iter__(self) -> Iterator[Codes]:
        """Yield the codes of this process and worker."""
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info is not None else (1, 0)
        own = _share(range(self.manifest.rows), self.rank, self.world_size)
        own = _share(own, worker, workers)
        epoch, end = int(self._epoch), 0
        for number in self._order(len(self._groups), epoch):
            group = self._groups[number]
            start, end = end, end + group.rows
            places = range(max(own.start, start) - start, min(own.stop, end) - start)
            if places:
                rows, order = self._read(group), self._order(group.rows, epoch, number)
                yield from (_codes(rows[order[place]]) for place in places)

    def _order(self, count: int, epoch: int, *purpose: int) -> list[int]:
        """Return the order of row groups, or of the images of the row group of this number."""
        if self.seed is None:
            return list(range(count))
        order = np.random.default_rng([self.seed, epoch, *purpose]).permutation(count)
        return [int(position) for position in order]


def _share(images: range, number: int, count: int) -> range:
    """Return one of `count` parts of a range, whose lengths differ by at most one."""
    first, last = (len(images) * part // count for part in (number, number + 1))
    return images[first:last]


def complete_manifest(folder: Path) -> CodeManifest:
    """Read the manifest of a folder whose shards are all encoded.

    Raises:
        FlatvqError: if it is missing or damaged, lists too few shards, or a shard has another size.
    """
    manifest = read_manifest(folder)
    if not manifest.complete:
        counts = f"{len(manifest.shards)} of {manifest.shard_count} shards"
        raise FlatvqError(f"'{folder}' holds {counts}", "run the same `flatvq encode` again to finish it")
    for shard in manifest.shards:
        path = folder / shard.name
        size = path.stat().st_size if path.is_file() else None
        # Each image takes bytes, so this also bounds the number of images that a damaged manifest claims.
        if size != shard.bytes or shard.rows > shard.bytes:
            what = (
                f"'{path}' has {size} bytes, not {shard.bytes}"
                if size is not None
                else f"no shard at '{path}'"
            )
            raise FlatvqError(what, "run the same `flatvq encode` again, which replaces damaged shards")
    return manifest


def _codes(row: Row) -> Codes:
    levels = tuple(torch.from_numpy(level.astype(np.int64)) for level in row.levels)
    return {"key": row.key, "size": (row.height, row.width), "levels": levels}
