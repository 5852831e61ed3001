"""A cache of what a survey learned about the files of a folder, so that large folders are read only once.

A survey reads every byte of every image, to hash it. For a million images this takes hours, and each trial of
a study needs the result. The cache stores it by the name of the file, with the size and the times of the
file. A file with another size or another time is read again.

The time of the last change (ctime) is compared too. Programs cannot set it, so a file that was replaced by
one of the same size and with a copied modification time is noticed. A file that changed shortly before it was
read is not stored, because it could change again within the resolution of the clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import PIL

from flatvq.data.conversion import Conversion
from flatvq.files import write_bytes
from flatvq.versions import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FEWEST_FILES", "FileTimes", "SurveyCache", "Surveyed"]

FEWEST_FILES = 1000
"""Folders with fewer files are always read again, which takes about a second."""

_VARIABLE = "FLATVQ_CACHE"
_OFF = "off"
# A file that changed less than this many seconds before the survey may change again unnoticed.
_SETTLED_SECONDS = 2.0


class FileTimes(NamedTuple):
    """What identifies the state of a file without reading it."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Time of the last change of the content."""
    ctime_ns: int
    """Time of the last change of the content or of the file's attributes."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileTimes:
        """Return the times in the status of a file."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Surveyed(NamedTuple):
    """What a survey learned about an image."""

    digest: str
    height: int
    width: int
    notes: tuple[str, ...]


class SurveyCache:
    """The results of earlier surveys of one folder.

    It is a file in the cache folder of the user: `$FLATVQ_CACHE`, or else `flatvq` in `$XDG_CACHE_HOME` or
    `~/.cache`. `FLATVQ_CACHE=off` disables it. A missing or damaged file is an empty cache, and a file that
    cannot be written is not an error.

    Args:
        folder: the folder of images.
        conversion: the conversion of its images, on which sizes and notes depend.
    """

    def __init__(self, folder: Path, conversion: Conversion) -> None:
        self._path = _path_of(folder, conversion)
        self._started = time.time()
        self._known: Mapping[str, tuple[FileTimes, Surveyed]] | None = None

    def get(self, name: str, times: FileTimes) -> Surveyed | None:
        """Return what is known of a file; None if it is new or has changed.

        Args:
            name: the name of the file in the folder.
            times: its size and times now.
        """
        if self._known is None:
            self._known = _read(self._path)
        known = self._known.get(name)
        return None if known is None or known[0] != times else known[1]

    def put(self, images: Iterable[tuple[str, FileTimes, Surveyed]]) -> None:
        """Replace the content of the cache, if it can be written.

        Args:
            images: name, size and times, and result of each image.
        """
        if self._path is None:
            return
        latest = (self._started - _SETTLED_SECONDS) * 1e9
        settled = [image for image in images if image[1].ctime_ns < latest]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, _to_parquet(settled))
        except OSError:
            return


def _read(path: Path | None) -> dict[str, tuple[FileTimes, Surveyed]]:
    """Return the content of the file of a cache, by name; nothing if it is missing or damaged."""
    if path is None or not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        kinds = [tuple(kind) for kind in json.loads(table.schema.metadata[b"notes"])]
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        times = map(FileTimes, *(columns[name] for name in FileTimes._fields))
        notes = [kinds[number] for number in columns["notes"]]
        images = map(Surveyed, columns["digest"], columns["height"], columns["width"], notes)
        return dict(zip(columns["name"], zip(times, images, strict=True), strict=True))
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
        return {}


def _to_parquet(images: list[tuple[str, FileTimes, Surveyed]]) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {notes: number for number, notes in enumerate(dict.fromkeys(image.notes for *_, image in images))}
    columns: dict[str, pa.Array] = {
        "name": pa.array([name for name, *_ in images], pa.string()),
        **{
            key: pa.array([getattr(times, key) for _, times, _ in images], pa.int64())
            for key in FileTimes._fields
        },
        "digest": pa.array([image.digest for *_, image in images], pa.string()),
        "height": pa.array([image.height for *_, image in images], pa.int32()),
        "width": pa.array([image.width for *_, image in images], pa.int32()),
        "notes": pa.array([kinds[image.notes] for *_, image in images], pa.int32()),
    }
    table = pa.table(columns).replace_schema_metadata({"notes": json.dumps([list(kind) for kind in kinds])})
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    return memoryview(content.getvalue())


def _path_of(folder: Path, conversion: Conversion) -> Path | None:
    """Return the file of a cache; None if caches are disabled."""
    place = os.environ.get(_VARIABLE, "")
    if place == _OFF:
        return None
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return None
    key = [os.path.realpath(folder), asdict(conversion), VERSION, PIL.__version__]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return (Path(place).expanduser() if place else home / "flatvq") / "surveys" / f"{name}.parquet"
