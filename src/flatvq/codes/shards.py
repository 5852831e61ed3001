"""Writes the codes of images as a parquet file.

    column             type                   content
    key                string                 the name of the image in its data set
    width, height      uint32                 of the encoded image, in pixels
    level_0, level_1   list of uint16/uint32  the indices of a level, bottom first, in row-major order

Parquet has no 16-bit integers, but it stores indices as positions in a dictionary, which take log2 K bits;
zstd then shortens frequent ones. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flatvq.tokenizers import TokenizerLevel

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROW_GROUP_SIZE", "Row", "index_dtype", "level_column", "schema_of", "shard_bytes"]

ROW_GROUP_SIZE = 64
"""Images of a row group, the unit that readers load. Smaller ones repeat the dictionary more often."""

# Room for the dictionary of the largest codebooks: beyond 1 MiB, the default, values would be stored instead.
_DICTIONARY_BYTES = 2**26
# About 1 % of the time of a small tokenizer. Level 3 gives 1 to 3 % larger files.
_ZSTD_LEVEL = 9


@dataclass(frozen=True)
class Row:
    """The codes of one image."""

    key: str
    """The name of the image."""
    height: int
    """Rows of pixels."""
    width: int
    """Columns of pixels."""
    levels: tuple[np.ndarray[Any, Any], ...]
    """Integers of any shape for each level, bottom first."""


def index_dtype(codebook_size: int) -> Any:
    """Return the smallest type for indices of a codebook of this size.

    Example:
        >>> index_dtype(65_536), index_dtype(65_537)
        (<class 'numpy.uint16'>, <class 'numpy.uint32'>)
    """
    return np.uint16 if codebook_size <= 2**16 else np.uint32


def level_column(number: int) -> str:
    """Return the name of the column of a level."""
    return f"level_{number}"


def schema_of(levels: Sequence[TokenizerLevel]) -> pa.Schema:
    """Return the columns of a shard."""
    import pyarrow as pa

    columns = [("key", pa.string()), ("width", pa.uint32()), ("height", pa.uint32())]
    columns += [
        (level_column(number), pa.list_(pa.from_numpy_dtype(index_dtype(level.codebook_size))))
        for number, level in enumerate(levels)
    ]
    return pa.schema(columns)


def shard_bytes(rows: Sequence[Row], levels: Sequence[TokenizerLevel], row_group_size: int) -> memoryview:
    """Return the content of a shard.

    Args:
        rows: the codes of images.
        levels: the levels of the tokenizer.
        row_group_size: images in each row group, the unit that readers load.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(levels)
    columns = [
        pa.array([row.key for row in rows], pa.string()),
        pa.array([row.width for row in rows], pa.uint32()),
        pa.array([row.height for row in rows], pa.uint32()),
    ]
    for number, level in enumerate(levels):
        flat = [row.levels[number].reshape(-1) for row in rows]
        offsets = np.cumsum([0, *map(len, flat)], dtype=np.int64)
        values = np.concatenate([*flat, np.empty(0, np.uint8)]).astype(index_dtype(level.codebook_size))
        columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values)))
    content = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, schema=schema),
        content,
        row_group_size=row_group_size,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[f"{level_column(number)}.list.element" for number in range(len(levels))],
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_statistics=False,
        store_schema=False,  # Parquet's own types are enough
    )
    return memoryview(content.getvalue())
