"""The images of a source as columns: one row for each image, in the order of the source.

A million images take about 100 MB, in memory that other processes share if the manifest was read from a file:
the columns are then mapped, not copied. Python objects are made for single rows only, when they are needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from flatvq.data.reasons import printable
from flatvq.files import write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Array", "Image", "Manifest", "joined", "manifest_of", "read_manifest"]

Array: TypeAlias = "np.ndarray[Any, Any]"

_DIGEST_BYTES = 16
_SIZES = ("height", "width", "notes")
_METADATA = b"flatvq"


class Image(NamedTuple):
    """What a survey learned about an image."""

    digest: str
    """Hash of the file's content, 32 hexadecimal digits."""
    height: int
    """Rows of the upright image after scaling."""
    width: int
    """Columns of the upright image after scaling."""
    notes: tuple[str, ...]
    """The conversions that the image needs, in words."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """Columns of N rows."""

    paths: pa.LargeBinaryArray
    """Name of each image as the file system or archive has it, unique within the source."""
    digests: Array
    """bytes of length 16 [N], which numpy compares and sorts as hexadecimal digits would be."""
    heights: Array
    """int32 [N], rows after scaling."""
    widths: Array
    """int32 [N], columns after scaling."""
    notes: Array
    """int32 [N], an index of `kinds`."""
    kinds: tuple[tuple[str, ...], ...]
    """The different notes."""
    places: Mapping[str, Array]
    """int64 [N] by name: where a file is, and what identifies its state."""

    def __len__(self) -> int:
        return len(self.digests)

    def name(self, row: int) -> str:
        """Return the printable name of an image."""
        return printable(os.fsdecode(self.paths[row].as_py()))

    def digest(self, row: int) -> str:
        """Return the hash of an image's content, 32 hexadecimal digits."""
        return bytes(self.digests[row]).ljust(_DIGEST_BYTES, b"\0").hex()

    def size(self, row: int) -> tuple[int, int]:
        """Return the height and width of an image after scaling."""
        return int(self.heights[row]), int(self.widths[row])

    def notes_of(self, row: int) -> tuple[str, ...]:
        """Return the conversions that an image needs."""
        return self.kinds[self.notes[row]]

    def nbytes(self, rows: Array) -> Array:
        """Return the bytes of decoded and scaled images, int64."""
        return 3 * self.heights[rows].astype(np.int64) * self.widths[rows]

    def at(self, rows: Array) -> Manifest:
        """Return the manifest of some rows, in the order of `rows`."""
        import pyarrow as pa

        return self._of(self.paths.take(pa.array(rows)), rows)

    def part(self, start: int, stop: int) -> Manifest:
        """Return a view of consecutive rows."""
        return self._of(self.paths[start:stop], slice(start, stop))

    def _of(self, paths: Any, rows: Array | slice) -> Manifest:
        places = {name: column[rows] for name, column in self.places.items()}
        digests, heights, widths = self.digests[rows], self.heights[rows], self.widths[rows]
        return Manifest(paths, digests, heights, widths, self.notes[rows], self.kinds, places)

    def write(self, path: Path, about: object = None) -> None:
        """Write the manifest to a file, from which `read_manifest` maps it.

        Args:
            path: the file.
            about: what belongs to it, as a value that JSON can represent.

        Raises:
            OSError: if the file cannot be written.
        """
        import pyarrow as pa

        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(_DIGEST_BYTES), len(self), [None, pa.py_buffer(np.ascontiguousarray(self.digests))]
        )
        sizes = (self.heights, self.widths, self.notes)
        batch = pa.RecordBatch.from_arrays(
            [self.paths, digests, *map(pa.array, sizes), *map(pa.array, self.places.values())],
            schema=_schema(self.places).with_metadata({_METADATA: json.dumps([self.kinds, about])}),
        )
        content = pa.BufferOutputStream()
        with pa.ipc.new_file(content, batch.schema) as writer:
            writer.write_batch(batch)
        write_bytes(path, memoryview(content.getvalue()))


def manifest_of(paths: Sequence[bytes], images: Sequence[Image], places: Mapping[str, Array]) -> Manifest:
    """Make the manifest of images.

    Args:
        paths: the name of each image.
        images: what is known of each.
        places: the other columns, int64 [N].

    Example:
        >>> images = [Image("a0" * 16, 4, 6, ()), Image("00" * 16, 2, 2, ())]
        >>> two = manifest_of([b"a.png", b"b.png"], images, {})
        >>> two.name(1), two.digest(1), two.size(0), two.nbytes(np.array([0, 1])).tolist()
        ('b.png', '00000000000000000000000000000000', (4, 6), [72, 12])
    """
    import pyarrow as pa

    kinds = {notes: number for number, notes in enumerate(dict.fromkeys(image.notes for image in images))}
    return Manifest(
        pa.array(paths, pa.large_binary()),
        np.array([bytes.fromhex(image.digest) for image in images], f"S{_DIGEST_BYTES}"),
        np.array([image.height for image in images], np.int32),
        np.array([image.width for image in images], np.int32),
        np.array([kinds[image.notes] for image in images], np.int32),
        tuple(kinds),
        places,
    )


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """Return one manifest of the rows of several, at least one, which have the same places."""
    import pyarrow as pa

    kinds = tuple(dict.fromkeys(notes for manifest in manifests for notes in manifest.kinds))
    numbers = [
        np.array([kinds.index(notes) for notes in manifest.kinds], np.int32)[manifest.notes]
        for manifest in manifests
    ]
    return Manifest(
        pa.concat_arrays([manifest.paths for manifest in manifests]),
        np.concatenate([manifest.digests for manifest in manifests]),
        np.concatenate([manifest.heights for manifest in manifests]),
        np.concatenate([manifest.widths for manifest in manifests]),
        np.concatenate(numbers),
        kinds,
        {name: np.concatenate([m.places[name] for m in manifests]) for name in manifests[0].places},
    )


def read_manifest(path: Path, places: Sequence[str]) -> tuple[Manifest, Any] | None:
    """Map the manifest in a file.

    Args:
        path: the file.
        places: the names of the other columns.

    Returns:
        The manifest, and what was written with it; None if the file is missing, damaged or another kind.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        batch.validate(full=True)
        kinds, about = json.loads(batch.schema.metadata[_METADATA])
        kinds = tuple(map(tuple, kinds))
        if not batch.schema.equals(_schema(places)):
            return None
        columns = {name: batch.column(name) for name in batch.schema.names}
        digests = np.frombuffer(columns["digest"].buffers()[1], f"S{_DIGEST_BYTES}", len(batch))
        heights, widths, notes = (columns[name].to_numpy() for name in _SIZES)
        if len(notes) and not 0 <= notes.min() <= notes.max() < len(kinds):
            return None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
        return None
    others = {name: columns[name].to_numpy() for name in places}
    return Manifest(columns["path"], digests, heights, widths, notes, kinds, others), about


def _schema(places: Sequence[str] | Mapping[str, Array]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("path", pa.large_binary()),
            ("digest", pa.binary(_DIGEST_BYTES)),
            *((name, pa.int32()) for name in _SIZES),
            *((name, pa.int64()) for name in places),
        ]
    )
