"""The rows of a parquet shard with a column of encoded images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from io import BytesIO
from typing import Any

from flatvq.data.reasons import printable, reason_of
from flatvq.data.shard import Place, Shard
from flatvq.data.survey import Item
from flatvq.errors import FlatvqError

__all__ = ["parquet_items", "read_rows"]


def parquet_items(shard: Shard, column: str) -> Iterator[tuple[Item, Place]]:
    """Yield the images in a parquet shard, in its order.

    Args:
        shard: the shard.
        column: the column of images: encoded files (binary), or structures with a field `bytes` of them.

    Raises:
        FlatvqError: if the file is damaged, or has no such column or several.
    """
    number = 0
    for group in range(_metadata(shard).num_row_groups):
        for offset, scalar in enumerate(_contents(shard, column, group)):
            content = scalar.as_py() or b""
            item = Item(f"{shard.name}/{number}", partial(BytesIO, content), claimed=True)
            yield item, Place(group, offset, len(content))
            number += 1


def read_rows(shard: Shard, column: str, places: Sequence[Place]) -> list[bytes]:
    """Read the images in some rows of one row group.

    Args:
        shard: the shard.
        column: the column of images.
        places: the rows.
    """
    contents = _contents(shard, column, places[0].group)
    return [contents[place.offset].as_py() or b"" for place in places]


def _contents(shard: Shard, column: str, group: int) -> Any:
    """Read the encoded images of a row group, as an array of bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = _metadata(shard)
    schema = metadata.schema.to_arrow_schema()
    if schema.names.count(column) != 1:
        number = "several columns" if column in schema.names else "no column"
        what = f"the parquet file '{printable(shard.url)}' has {number} {column!r}"
        raise FlatvqError(what, f"set data.image_column; it has {', '.join(map(printable, schema.names))}")
    kind, leaf = schema.field(column).type, column
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, leaf = kind.field("bytes").type, f"{column}.bytes"
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        what = f"column {column!r} of the parquet file '{printable(shard.url)}' holds no images ({kind})"
        raise FlatvqError(what, "set data.image_column to a column of encoded images")
    try:
        with shard.open() as stream:
            table = pq.ParquetFile(stream, metadata=metadata).read_row_group(group, columns=[leaf])
    except pa.ArrowNotImplementedError as error:
        what = f"row group {group} of '{printable(shard.url)}' cannot be read ({reason_of(error)})"
        raise FlatvqError(what, "write it again with less than 2 GiB of images in a row group") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(shard, error) from None
    contents = table.column(column)  # more than 2 GiB are in several chunks, which cannot be joined
    if leaf == column:
        return contents
    return pa.chunked_array([chunk.field("bytes") for chunk in contents.chunks], kind)


@lru_cache(maxsize=64)
def _metadata(shard: Shard) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with shard.open() as stream:
            return pq.read_metadata(stream)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(shard, error) from None


def _damaged(shard: Shard, error: Exception) -> FlatvqError:
    what = f"the parquet file '{printable(shard.url)}' cannot be read ({reason_of(error)})"
    return FlatvqError(what, "write it again, or remove it")
