"""Reads row groups of shards: the codes of up to 64 images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from flatvq.codes.manifest import CodeManifest
from flatvq.codes.shards import Row, level_column, schema_of
from flatvq.data.conversion import LARGEST_PIXELS
from flatvq.errors import FlatvqError
from flatvq.regular import require_regular
from flatvq.tokenizers import TokenizerLevel

__all__ = ["RowGroup", "read_keys", "read_row_group", "row_groups_of"]

_ROW_COLUMNS = ("key", "width", "height")
# Keys are paths, which are shorter.
_MAX_ROW_BYTES = 2**16
_REMEDY = "encode the images again with `flatvq encode`, which replaces damaged shards"


@dataclass(frozen=True)
class RowGroup:
    """The place of a row group."""

    shard: str
    """The file name of the shard."""
    number: int
    """The number of the row group in its shard."""
    rows: int
    """How many images it holds."""
    shard_bytes: int
    """The size of the shard, by the manifest."""


def row_groups_of(manifest: CodeManifest) -> Iterator[RowGroup]:
    """Yield the row groups of all shards, in order."""
    size = manifest.settings.row_group_size
    for shard in manifest.shards:
        for number, first in enumerate(range(0, shard.rows, size)):
            yield RowGroup(shard.name, number, min(size, shard.rows - first), shard.bytes)


def read_row_group(folder: Path, group: RowGroup, manifest: CodeManifest) -> list[Row]:
    """Read a row group, and check that its indices fit the tokenizer.

    Args:
        folder: the folder of the shards.
        group: the row group.
        manifest: the manifest of the folder.

    Returns:
        The codes of its images, with indices of shape (*index_shape, h, w) for each level.

    Raises:
        FlatvqError: if the shard is missing or damaged, or does not fit the manifest.
    """
    path = folder / group.shard
    levels = manifest.tokenizer_levels
    with _opened(path, group, levels) as file:
        rows = _read_rows(file, path, group)
        shapes = [_shapes(level, rows, manifest.tokenizer.factor) for level in levels]
        columns = [
            list(_grids(file, path, group, number, each, levels[number].codebook_size))
            for number, each in enumerate(shapes)
        ]
    return [
        Row(row["key"], row["height"], row["width"], tuple(column[number] for column in columns))
        for number, row in enumerate(rows)
    ]


def read_keys(folder: Path, group: RowGroup, manifest: CodeManifest) -> list[str]:
    """Read the names of the images of a row group.

    Args:
        folder: the folder of the shards.
        group: the row group.
        manifest: the manifest of the folder.

    Raises:
        FlatvqError: if the shard is missing or damaged, or does not fit the manifest.
    """
    path = folder / group.shard
    with _opened(path, group, manifest.tokenizer_levels) as file:
        return [row["key"] for row in _read_rows(file, path, group)]


@contextmanager
def _opened(path: Path, group: RowGroup, levels: Sequence[TokenizerLevel]) -> Iterator[Any]:
    """Open a shard, and check its size and columns. Errors of reading become a `FlatvqError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        if path.stat().st_size != group.shard_bytes:
            raise FlatvqError(f"'{path}' changed after its folder was opened", "open the folder again")
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.remove_metadata() != schema_of(levels):
                raise _damaged(path, "it has other columns")
            yield file
    except FileNotFoundError:
        raise FlatvqError(f"no shard at '{path}'", _REMEDY) from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _damaged(path, reason[:120]) from None


def _read_rows(file: Any, path: Path, group: RowGroup) -> list[dict[str, Any]]:
    """Read the columns other than the levels."""
    description = file.metadata.row_group(group.number)
    columns = range(len(_ROW_COLUMNS))
    size = sum(description.column(column).total_uncompressed_size for column in columns)
    if description.num_rows != group.rows or size > group.rows * _MAX_ROW_BYTES:
        raise _damaged(path, f"row group {group.number} has {description.num_rows} rows of {size} bytes")
    rows = _read(file, path, group, _ROW_COLUMNS).to_pylist()
    for row in rows:
        if not 0 < row["width"] * row["height"] <= LARGEST_PIXELS:
            raise _damaged(path, f"an image of {row['width']} x {row['height']} pixels")
    return list(rows)


def _shapes(level: TokenizerLevel, rows: Sequence[dict[str, Any]], factor: int) -> list[tuple[int, ...]]:
    """Return the shape of the indices of each image.

    Whole images are extended to multiples of the factor before they are encoded.
    """
    sizes = [(row["height"], row["width"]) for row in rows]
    return [level.shape_for(height + -height % factor, width + -width % factor) for height, width in sizes]


def _grids(
    file: Any, path: Path, group: RowGroup, number: int, shapes: Sequence[tuple[int, ...]], codebook_size: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Read the indices of a level, and yield the indices of each image as views of one array."""
    counts = [prod(shape) for shape in shapes]
    stored = file.metadata.row_group(group.number).column(len(_ROW_COLUMNS) + number).num_values
    if stored != sum(counts):  # before they are read
        raise _damaged(
            path, f"row group {group.number} has {stored} indices of level {number}, not {sum(counts)}"
        )
    column = _read(file, path, group, [level_column(number)]).column(0).combine_chunks()
    if column.flatten().null_count:
        raise _damaged(path, f"level {number} of row group {group.number} has missing values")
    values, offsets = column.flatten().to_numpy(), column.offsets.to_numpy()
    if np.diff(offsets).tolist() != counts:
        raise _damaged(path, f"images of row group {group.number} have other numbers of indices")
    if len(values) and values.max() >= codebook_size:
        raise _damaged(path, f"index {values.max()} of a codebook of {codebook_size}")
    starts = offsets - offsets[0]
    for image, shape in enumerate(shapes):
        yield values[starts[image] : starts[image + 1]].reshape(shape)


def _read(file: Any, path: Path, group: RowGroup, columns: Sequence[str]) -> Any:
    """Read columns of a row group, without missing values."""
    table = file.read_row_group(group.number, columns=list(columns), use_threads=False)
    table.validate(full=True)
    if any(column.null_count for column in table.columns):
        raise _damaged(path, f"row group {group.number} has missing values")
    return table


def _damaged(path: Path, reason: str) -> FlatvqError:
    return FlatvqError(f"'{path}' is damaged ({reason})", _REMEDY)
