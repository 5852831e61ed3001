"""Reads row groups of shards: the codes of up to 64 images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flatvq.codes.manifest import CodeManifest
from flatvq.codes.shards import Row, level_column, schema_of
from flatvq.errors import FlatvqError
from flatvq.tokenizers import TokenizerLevel

__all__ = ["RowGroup", "read_row_group", "row_groups_of"]

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


def row_groups_of(manifest: CodeManifest) -> Iterator[RowGroup]:
    """Yield the row groups of all shards, in order."""
    size = manifest.settings.row_group_size
    for shard in manifest.shards:
        for number, first in enumerate(range(0, shard.rows, size)):
            yield RowGroup(shard.name, number, min(size, shard.rows - first))


def read_row_group(folder: Path, group: RowGroup, manifest: CodeManifest) -> list[Row]:
    """Read a row group, and check that its indices are those of the tokenizer.

    Args:
        folder: the folder of the shards.
        group: the row group.
        manifest: the manifest of the folder.

    Returns:
        The codes of its images, with indices of shape (*index_shape, h, w) for each level.

    Raises:
        FlatvqError: if the shard is missing or damaged, or does not fit the manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / group.shard
    levels = [level.to_tokenizer_level() for level in manifest.tokenizer.levels]
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.remove_metadata() != schema_of(levels):
                raise _damaged(path, "it has other columns")
            table = file.read_row_group(group.number, use_threads=False)
        table.validate(full=True)
    except FileNotFoundError:
        raise FlatvqError(f"no shard at '{path}'", _REMEDY) from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _damaged(path, reason[:120]) from None
    if len(table) != group.rows or any(column.null_count for column in table.columns):
        raise _damaged(path, f"row group {group.number} has {len(table)} rows or missing values")
    sizes = list(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
    columns = [
        list(
            _grids(
                path, table[level_column(number)].combine_chunks(), level, sizes, manifest.tokenizer.factor
            )
        )
        for number, level in enumerate(levels)
    ]
    keys = table["key"].to_pylist()
    return [
        Row(key, height, width, tuple(column[number] for column in columns))
        for number, (key, (height, width)) in enumerate(zip(keys, sizes, strict=True))
    ]


def _grids(
    path: Path, column: Any, level: TokenizerLevel, sizes: Sequence[tuple[int, int]], factor: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the indices of each image of a row group, as views of one array."""
    values, offsets = column.flatten().to_numpy(), column.offsets.to_numpy()
    if len(values) and values.max() >= level.codebook_size:
        raise _damaged(path, f"index {values.max()} of a codebook of {level.codebook_size}")
    for number, (height, width) in enumerate(sizes):
        # Whole images are extended to multiples of the factor before they are encoded.
        shape = level.shape_for(height + -height % factor, width + -width % factor)
        flat = values[offsets[number] - offsets[0] : offsets[number + 1] - offsets[0]]
        if len(flat) != int(np.prod(shape)):
            raise _damaged(path, f"{len(flat)} indices for an image of {width} x {height} pixels")
        yield flat.reshape(shape)


def _damaged(path: Path, reason: str) -> FlatvqError:
    return FlatvqError(f"'{path}' is damaged ({reason})", _REMEDY)
