"""Survey the files of a source: which are images, which are not, and the size and content hash of each image.

A source lists `Item`s. A survey turns each item that contains an image into an `Entry`, and gives the others
a status.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, TypeAlias

from flatvq.data.conversion import Conversion, NotAnImageError, Rejected
from flatvq.data.header import read_header
from flatvq.data.reasons import reason_of
from flatvq.data.survey_cache import FileTimes, SurveyCache, Surveyed
from flatvq.data.types import FileStatus
from flatvq.processes import cores

__all__ = ["Entry", "Item", "Survey", "decoding_threads", "digest_of", "survey"]

_CHUNK = 256 * 1024
# Files that are read ahead of the one whose result is taken next.
_WINDOW = 256


@dataclass(frozen=True, slots=True)
class Item:
    """A file that may contain an image."""

    name: str
    """Printable, unique within the source."""
    open: Callable[[], BinaryIO]
    """Opens the file for reading bytes; the stream is seekable."""
    claimed: bool
    """Whether the name or place promises an image. Such a file without one is `unreadable`, not `skipped`."""
    times: FileTimes | None = None
    """Size and times of the file, by which a cache recognizes it; None if it has none."""


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A file that contains an image, as described by its header."""

    name: str
    """Printable, unique within the source."""
    open: Callable[[], BinaryIO]
    """Opens the file for reading bytes."""
    digest: str
    """Hash of the file's content."""
    height: int
    """Rows of the upright image after scaling."""
    width: int
    """Columns of the upright image after scaling."""
    notes: tuple[str, ...]
    """The conversions that the image needs, in words."""

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded and scaled image."""
        return 3 * self.height * self.width

    def converted(self, split: str) -> FileStatus:
        """Return the status of an image that is used with conversions."""
        return FileStatus(self.name, split, "converted", "; ".join(self.notes))


_Pending: TypeAlias = "tuple[Item, Surveyed | Future[Surveyed | Rejected]]"


@dataclass(frozen=True)
class Survey:
    """The content of a source."""

    entries: tuple[Entry, ...]
    """Its images, in the source's order."""
    file_statuses: tuple[FileStatus, ...]
    """The files that are not usable; files that are not images are grouped by suffix."""
    remedies: Mapping[str, str]
    """What to do about unusable images, by name, if the remedy is not to repair the file."""


def survey(
    items: Iterable[Item], conversion: Conversion, split: str, cache: SurveyCache | None = None
) -> Survey:
    """Read the header of every file and hash the content of every image, in several threads.

    Args:
        items: the files.
        conversion: the size and white level to convert images to.
        split: the name of the set in file statuses.
        cache: the results of earlier surveys; files that have not changed since are not read. It is updated.

    Returns:
        The images, and the status of all other files.
    """
    entries: list[Entry] = []
    file_statuses: list[FileStatus] = []
    remedies: dict[str, str] = {}
    other_files: Counter[str] = Counter()
    images: list[tuple[str, FileTimes, Surveyed]] = []
    changed = False
    with ThreadPoolExecutor(decoding_threads()) as pool:
        known = ((item, _cached(item, cache)) for item in items)
        pending = ((item, hit or pool.submit(_examine, item, conversion)) for item, hit in known)
        for item, hit_or_future in _in_order(pending):
            result = hit_or_future.result() if isinstance(hit_or_future, Future) else hit_or_future
            if isinstance(result, Surveyed):
                entries.append(Entry(item.name, item.open, *result))
                if item.times is not None:
                    images.append((item.name, item.times, result))
                changed |= isinstance(hit_or_future, Future)
            elif isinstance(result, NotAnImageError) and not item.claimed:
                other_files[PurePath(item.name).suffix] += 1
            else:
                file_statuses.append(_status_of(item, result, split))
                if result.remedy:
                    remedies[item.name] = result.remedy
    if cache is not None and changed:
        cache.put(images)
    return Survey(tuple(entries), (*file_statuses, *_grouped(other_files, split)), remedies)


def digest_of(stream: BinaryIO) -> str:
    """Hash the whole content of a file.

    Two files with the same digest are exact copies. Of the hashes in `hashlib`, SHA-256 is the fastest on
    processors with instructions for it (1.5 GB/s in one thread; blake2b: 0.8 GB/s).

    Args:
        stream: the file's bytes, seekable.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> from io import BytesIO
        >>> digest_of(BytesIO(b"same")) == digest_of(BytesIO(b"same")) != digest_of(BytesIO(b"else"))
        True
    """
    stream.seek(0)
    content = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        content.update(chunk)
    return content.hexdigest()[:32]


def decoding_threads() -> int:
    """Return how many threads read and decode files: one for each core of this process, up to 8.

    About a tenth of the work on a file is Python code, which one thread at a time can run.
    """
    return min(8, cores())


def _cached(item: Item, cache: SurveyCache | None) -> Surveyed | None:
    return None if cache is None or item.times is None else cache.get(item.name, item.times)


def _in_order(pending: Iterable[_Pending]) -> Iterator[_Pending]:
    """Take results in order, while a bounded number of files is being read."""
    window: deque[_Pending] = deque()
    for one in pending:
        window.append(one)
        if len(window) > _WINDOW:
            yield window.popleft()
    yield from window


def _examine(item: Item, conversion: Conversion) -> Surveyed | Rejected:
    """Read the header of a file and hash its content."""
    try:
        with item.open() as stream:
            if not stream.read(1):
                raise NotAnImageError("empty file")
            stream.seek(0)
            header = read_header(stream, conversion)
            digest = digest_of(stream)
    except Rejected as rejected:
        return rejected
    except Exception as error:  # the user's disk, archive or dataset library may raise anything
        return Rejected(f"cannot be opened ({reason_of(error, item.name)})")
    return Surveyed(digest, header.height, header.width, header.notes)


def _status_of(item: Item, rejected: Rejected, split: str) -> FileStatus:
    return FileStatus(item.name, split, "skipped" if rejected.skipped else "unreadable", rejected.reason)


def _grouped(other_files: Counter[str], split: str) -> Sequence[FileStatus]:
    """Return one status per suffix for files that are not images, such as a label file per image."""
    return [
        FileStatus(
            f"{'*' + suffix if suffix else 'no suffix'} ({count} files)", split, "skipped", "not images"
        )
        for suffix, count in sorted(other_files.items())
    ]
