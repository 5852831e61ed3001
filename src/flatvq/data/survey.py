"""Survey the files of a source: which are images, and the size and content hash of each image."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

import numpy as np

from flatvq.data.conversion import Conversion, HiddenError, NotAnImageError, Rejected
from flatvq.data.header import read_header
from flatvq.data.manifest import Image, Manifest, manifest_of
from flatvq.data.reasons import printable, reason_of
from flatvq.data.types import FileStatus
from flatvq.data.walk import hidden_status
from flatvq.processes import cores

__all__ = ["Item", "Survey", "Tally", "decoding_threads", "digest_of", "examine", "grouped", "survey"]

_CHUNK = 256 * 1024
# Files that are read ahead of the one whose result is taken next.
_WINDOW = 256
# Of hidden files, in place of a suffix.
_HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Item:
    """A file that may contain an image."""

    path: str
    """Unique within the source."""
    open: Callable[[], BinaryIO]
    """Opens the file for reading bytes; the stream is seekable."""
    claimed: bool
    """Whether the name or place promises an image. Such a file without one is `unreadable`, not `skipped`."""

    @property
    def name(self) -> str:
        """The path, printable."""
        return printable(self.path)


@dataclass(frozen=True)
class Survey:
    """The content of a source."""

    manifest: Manifest
    """Its images, in the source's order."""
    file_statuses: tuple[FileStatus, ...]
    """The files that are not usable; files that are not images are grouped by suffix."""
    remedies: Mapping[str, str]
    """What to do about unusable images, by name, if the remedy is not to repair the file."""


class Tally:
    """Collects what a survey learns about files, in their order.

    Args:
        split: the name of the set in file statuses.
    """

    def __init__(self, split: str) -> None:
        self._split = split
        self._paths: list[bytes] = []
        self._images: list[Image] = []
        self._numbers: list[int] = []
        self.file_statuses: list[FileStatus] = []
        """Files that are not usable."""
        self.remedies: dict[str, str] = {}
        """What to do about some of them, by name."""
        self.other_files: Counter[str] = Counter()
        """The number of files that are not images, by suffix, and of hidden ones."""

    def add(self, number: int, item: Item, result: Image | Rejected) -> None:
        """Add a file.

        Args:
            number: the number of the file in its source.
            item: the file.
            result: its image, or why it has none.
        """
        if isinstance(result, Image):
            self._paths.append(os.fsencode(item.path))
            self._images.append(result)
            self._numbers.append(number)
        elif isinstance(result, HiddenError):
            self.other_files[_HIDDEN] += 1
        elif isinstance(result, NotAnImageError) and not item.claimed:
            self.other_files[PurePath(item.name).suffix] += 1
        else:
            self.file_statuses.append(
                FileStatus(
                    item.name, self._split, "skipped" if result.skipped else "unreadable", result.reason
                )
            )
            if result.remedy:
                self.remedies[item.name] = result.remedy

    def survey(self) -> Survey:
        """Return all that was added. The manifest has a column `file` of the numbers."""
        places = {"file": np.array(self._numbers, np.int64)}
        manifest = manifest_of(self._paths, self._images, places)
        statuses = (*self.file_statuses, *grouped(self.other_files, self._split))
        return Survey(manifest, statuses, self.remedies)


def survey(items: Iterable[Item], conversion: Conversion, split: str) -> Survey:
    """Read the header of every file and hash the content of every image, in several threads.

    Args:
        items: the files.
        conversion: the size and white level to convert images to.
        split: the name of the set in file statuses.

    Returns:
        The images, and the status of all other files. The column `file` of the manifest has numbers of items.
    """
    tally = Tally(split)
    with ThreadPoolExecutor(decoding_threads()) as pool:
        pending = ((item, pool.submit(examine, item, conversion)) for item in items)
        for number, (item, result) in enumerate(_in_order(pending)):
            tally.add(number, item, result.result())
    return tally.survey()


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


def _in_order(
    pending: Iterable[tuple[Item, Future[Image | Rejected]]],
) -> Iterator[tuple[Item, Future[Image | Rejected]]]:
    """Take results in order, while a bounded number of files is being read."""
    window: deque[tuple[Item, Future[Image | Rejected]]] = deque()
    for one in pending:
        window.append(one)
        if len(window) > _WINDOW:
            yield window.popleft()
    yield from window


def examine(item: Item, conversion: Conversion) -> Image | Rejected:
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
    return Image(digest, header.height, header.width, header.notes)


def grouped(other_files: Mapping[str, int], split: str) -> Sequence[FileStatus]:
    """Return one status per suffix for files that are not images, such as a label file per image."""

    def status(suffix: str, count: int) -> FileStatus:
        if suffix == _HIDDEN:
            return hidden_status(count, split)
        name = f"{'*' + suffix if suffix else 'no suffix'} ({count} file{'' if count == 1 else 's'})"
        return FileStatus(name, split, "skipped", "not images")

    return [status(suffix, count) for suffix, count in sorted(other_files.items())]
