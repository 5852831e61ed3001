"""The files in shards, read in blocks of neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from typing import BinaryIO

import numpy as np

from flatvq.data.conversion import Rejected
from flatvq.data.manifest import Array, Manifest
from flatvq.data.parquet_shards import read_rows
from flatvq.data.read_ahead import Reader, Request
from flatvq.data.shard import Place, Shard
from flatvq.data.survey import digest_of
from flatvq.data.tar_shards import read_members
from flatvq.data.types import Blocks
from flatvq.errors import FlatvqError

__all__ = ["ShardFiles"]

_MIB = 2**20
_BLOCK_MIB = 4
# A file in memory is there twice while its block is read: in the block, and alone.
_COPIES = 2


class ShardFiles:
    """The `Content` of a manifest with the columns of `PLACES`. It can read ahead.

    A block is a row group of a parquet file, or 4 MiB of a tar file; less if the memory is below 64 MiB.

    Args:
        shards: the shards.
        manifest: their images, ordered by shard and place.
        column: the column of images in parquet files.
        memory_mib: memory in MiB for encoded images.
    """

    def __init__(self, shards: Sequence[Shard], manifest: Manifest, column: str, memory_mib: int) -> None:
        self._shards, self._manifest, self._column = shards, manifest, column
        self._memory = memory_mib * _MIB
        self._readers: list[Reader] = []

    @cached_property
    def _numbers(self) -> Array:
        """The block of each row of the manifest, ascending: shard and number in the shard, int64 [N]."""
        places = self._manifest.places
        is_tar = np.array([shard.is_tar for shard in self._shards], bool)[places["shard"]]
        block = int(min(_BLOCK_MIB * _MIB, self._memory // 16))
        return (places["shard"] << 32) + np.where(is_tar, places["offset"] // block, places["group"])

    def blocks(self, rows: Array) -> Blocks:
        """Return the blocks of some files; three eighths of the memory hold a window."""
        return Blocks(self._numbers[rows], self._manifest.places["length"][rows], self._memory * 3 // 8)

    def require_memory(self, key: str) -> None:
        """Check that a block fits the memory in which blocks are read, a quarter of all.

        Args:
            key: the name of the setting of the memory.

        Raises:
            FlatvqError: if it does not.
        """
        if not len(self._manifest):
            return
        starts = np.flatnonzero(np.diff(self._numbers, prepend=-1))
        sizes = np.add.reduceat(self._manifest.places["length"], starts)
        largest = int(np.argmax(sizes))
        if _COPIES * sizes[largest] > self._memory // 4:
            shard = self._shards[self._manifest.places["shard"][starts[largest]]]
            kind = "an image" if shard.is_tar else "a row group"
            least = -(-_COPIES * 4 * int(sizes[largest]) // _MIB)
            what = f"{kind} of shard '{shard.name}' takes {sizes[largest] / _MIB:.0f} MiB, too much for {key}"
            raise FlatvqError(f"{what} {self._memory // _MIB}", f"raise it to {least} or write smaller ones")

    def open(self, row: int, /) -> BinaryIO:
        """Open a file, after comparing its hash with the hash in the manifest.

        Raises:
            Rejected: if the file has changed.
            FlatvqError: if its shard cannot be read.
        """
        content = None
        for reader in tuple(self._readers):
            content = reader.take(row)
            if content is not None:
                break
        if content is None:
            content = self._read(np.array([row]))[row]
        stream = BytesIO(content)
        if digest_of(stream) != self._manifest.digest(row):
            raise Rejected("has changed since the index of its shard was made")
        stream.seek(0)
        return stream

    @contextmanager
    def upcoming(self, groups: Iterable[Array]) -> Iterator[None]:
        """Read files ahead within the context (`ReadAhead.upcoming`)."""
        reader = Reader(groups, self._requests, self._read, self._memory // 4)
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)
            reader.close()

    def _requests(self, rows: Array) -> list[Request]:
        """Divide rows by block, in the order of the first row of each block."""
        numbers = self._numbers[rows]
        _, firsts, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        order = np.lexsort([rows, firsts[inverse]])
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        return [Request(part, self._bytes_to_read(part)) for part in np.split(rows[order], cuts) if len(part)]

    def _bytes_to_read(self, rows: Array) -> int:
        """Return the memory that it takes to read rows of one block."""
        number, places = self._numbers[rows[0]], self._manifest.places
        start, stop = np.searchsorted(self._numbers, [number, number + 1])
        content = int(places["length"][start:stop].sum())
        if not self._shards[places["shard"][rows[0]]].is_tar:
            return _COPIES * content
        # Between the images of a tar file are headers and other members.
        first, last = rows.min(), rows.max()
        together = int(places["offset"][last] + places["length"][last] - places["offset"][first])
        return together + content

    def _read(self, rows: Array) -> dict[int, bytes]:
        """Read rows of one block, in ascending order."""
        places = self._manifest.places
        shard = self._shards[places["shard"][rows[0]]]
        columns = (places[name][rows].tolist() for name in Place._fields)
        where = [Place(*values) for values in zip(*columns, strict=True)]
        contents = read_members(shard, where) if shard.is_tar else read_rows(shard, self._column, where)
        return dict(zip(rows.tolist(), contents, strict=True))
