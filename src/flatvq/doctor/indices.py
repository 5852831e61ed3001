"""Reads and counts arrays of indices, chunk by chunk, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from flatvq.codes.manifest import NAME, read_manifest
from flatvq.codes.shards import level_column
from flatvq.data.reasons import printable, reason_of
from flatvq.errors import FlatvqError
from flatvq.regular import require_regular

__all__ = ["INDEX_SUFFIXES", "MOST_CODES", "StoredIndices", "read_indices"]

INDEX_SUFFIXES = (".npy", ".npz", ".parquet")
"""Suffixes of files that hold indices."""
MOST_CODES = 2**22
"""Largest size of a codebook."""

# Indices that are in memory at a time.
_CHUNK = 2**22


@dataclass(frozen=True)
class StoredIndices:
    """Indices of one level."""

    name: str
    counts: Tensor
    """int64: number of occurrences of each index, up to the largest one or to the size of the codebook."""
    size_is_known: bool
    """Whether the size of the codebook was given."""


def read_indices(path: Path, codebook_size: int | None = None) -> list[StoredIndices]:
    """Read indices, and count them.

    Args:
        path: a `.npy` or `.npz` file with integer arrays, or a `.parquet` file or a folder of them with
            columns of integers or lists of integers.
        codebook_size: K; by default that of manifest.json in a folder of `flatvq encode`, or else the largest
            index plus one.

    Returns:
        The counts of each array or column. Columns named `width` and `height` are left out.

    Raises:
        FlatvqError: if the file cannot be read, holds no integers, or an index is negative or at least K.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "grid.npy", np.array([[0, 2], [2, 1]]))
        ...     read_indices(Path(folder) / "grid.npy")[0].counts.tolist()
        [1, 1, 2]
    """
    tallies: dict[str, _Tally] = {}
    sizes = _stated_sizes(path) if codebook_size is None else {}
    try:
        for name, chunk in _chunks(path):
            shown = printable(name)
            size = sizes.get(name, codebook_size)
            tally = tallies.setdefault(shown, _Tally(f"'{shown}' of '{path}'", size))
            tally.add(chunk)
    except FlatvqError:
        raise
    except Exception as error:
        raise FlatvqError(f"cannot read '{path}' ({reason_of(error)})", "give a file of indices") from None
    if not tallies:
        raise FlatvqError(f"'{path}' holds no array of integers", "give a file of indices")
    return [StoredIndices(name, tally.counts(), tally.size_is_known) for name, tally in tallies.items()]


def _stated_sizes(path: Path) -> dict[str, int]:
    """Return K of each column of shards of `flatvq encode`, from their manifest; empty for other files."""
    folder = path if path.is_dir() else path.parent
    is_shard = path.is_dir() or path.match("codes-*-of-*.parquet")
    if not is_shard or not (folder / NAME).is_file() or not any(folder.glob("codes-*-of-*.parquet")):
        return {}
    levels = read_manifest(folder).tokenizer_levels
    for level in levels:
        if level.codebook_size > MOST_CODES:
            what = f"'{folder / NAME}' states a codebook of {level.codebook_size} codes"
            raise FlatvqError(what, f"examine codebooks of at most {MOST_CODES}")
    return {level_column(number): level.codebook_size for number, level in enumerate(levels)}


class _Tally:
    """Counts the indices of one array.

    Args:
        origin: the name of the array in error messages.
        codebook_size: K; None for the largest index plus one.
    """

    def __init__(self, origin: str, codebook_size: int | None) -> None:
        self._origin, self._size = origin, codebook_size
        self._counts = np.zeros(codebook_size or 0, np.int64)
        self.size_is_known = codebook_size is not None

    def add(self, array: np.ndarray[Any, Any]) -> None:
        """Count the indices of a chunk."""
        if array.dtype.kind not in "iu":
            raise FlatvqError(f"{self._origin} has the dtype {array.dtype}", "give integers")
        if not array.size:
            return
        smallest, largest = int(array.min()), int(array.max())
        if smallest < 0 or (self._size and largest >= self._size):
            below = f" to {self._size - 1}" if self._size else ""
            wrong = smallest if smallest < 0 else largest
            raise FlatvqError(f"{self._origin} holds the index {wrong}", f"give indices from 0{below}")
        if largest >= MOST_CODES:
            what = f"{self._origin} holds the index {largest}"
            raise FlatvqError(what, f"give indices below {MOST_CODES}")
        counts = np.bincount(array.reshape(-1).astype(np.int64), minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def counts(self) -> Tensor:
        """Return the counts.

        Raises:
            FlatvqError: if there are no indices.
        """
        if not self._counts.any():
            raise FlatvqError(f"{self._origin} is empty", "give at least one index")
        return torch.from_numpy(self._counts)


def _chunks(path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the indices of a file or folder, with the name of their array or column."""
    if not path.exists():
        raise FlatvqError(f"'{path}' does not exist", "give a file of indices")
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise FlatvqError(f"'{path}' holds no parquet file", "give a file of indices")
        for file in files:
            yield from _columns(file)
        return
    require_regular(path)
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):  # a .npz file of another name
            raise FlatvqError(f"'{path}' is not a .npy file", "give it the suffix of its format")
        flat = array.reshape(-1)
        for start in range(0, max(1, len(flat)), _CHUNK):
            yield path.stem, flat[start : start + _CHUNK]
    elif path.suffix == ".npz":
        with ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as member:
                    yield from ((entry.filename.removesuffix(".npy"), chunk) for chunk in _array(member))
    else:
        yield from _columns(path)


def _array(file: IO[bytes]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the values of a .npy file that cannot be mapped into memory, in the order of the file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    yield np.empty(0, dtype)  # the dtype is checked before values are read
    remaining = prod(shape)
    while remaining:
        content = file.read(min(remaining, _CHUNK) * dtype.itemsize)
        if not content:
            raise EOFError("the array is cut off")
        chunk = np.frombuffer(content, dtype)
        yield chunk
        remaining -= len(chunk)


def _columns(path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the columns of integers of a parquet file, some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_regular(path)
    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if pa.types.is_integer(_values_of(field.type))]
        for name in names:
            if name in ("width", "height"):
                continue
            for number in range(file.num_row_groups):
                rows = _rows_at_a_time(file.metadata.row_group(number), name)
                for batch in file.iter_batches(rows, [number], [name], use_threads=False):
                    yield name, _flat(batch.column(0))


def _values_of(kind: Any) -> Any:
    """Return the type of the values of nested lists or of a dictionary."""
    import pyarrow as pa

    while _is_list(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        is_kind(kind) for is_kind in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )


def _rows_at_a_time(group: Any, name: str) -> int:
    """Return how many rows of a row group fit in memory. A row holds an image."""
    columns = [group.column(number) for number in range(group.num_columns)]
    values = sum(column.num_values for column in columns if column.path_in_schema.split(".")[0] == name)
    if values > _CHUNK * group.num_rows:
        what = f"column '{printable(name)}' has {values} indices in {group.num_rows} rows"
        raise FlatvqError(what, f"give at most {_CHUNK} indices in a row")
    return int(max(1, _CHUNK * group.num_rows // max(1, values)))


def _flat(column: Any) -> np.ndarray[Any, Any]:
    """Return the values of a column of numbers or of nested lists."""
    import pyarrow as pa

    missing = column.null_count
    while _is_list(column.type):
        column = column.flatten()
        missing += column.null_count
    if missing:
        raise FlatvqError(f"a column has {missing} missing values", "give a file without missing values")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return values
