"""Shards: files on a disk or behind a URL of which ranges of bytes are read, with retries."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

from flatvq.data.reasons import printable, reason_of
from flatvq.data.remote import repeated
from flatvq.errors import FlatvqError

__all__ = ["Place", "Shard"]

_READ_AHEAD = 8 * 2**20


class _ShorterError(Exception):
    """A file has fewer bytes than it had."""


@dataclass(frozen=True)
class Shard:
    """A file of many images.

    Example:
        >>> import fsspec
        >>> from flatvq.data.shard_list import list_shards
        >>> with fsspec.open("memory://example/a.tar", "wb") as file:
        ...     _ = file.write(b"0123456789")
        >>> (shard,) = list_shards("memory://example/*.tar", "data.path")
        >>> shard.name, shard.size, shard.read(2, 5)
        ('a.tar', 10, b'234')
    """

    name: str
    """Printable, unique within the source."""
    url: str
    """Where it is, unique."""
    size: int
    """Bytes."""
    state: str
    """Times, tags or hashes that change with the content."""
    is_local: bool
    """Whether it is a file on a disk."""
    fs: Any = field(repr=False, compare=False)
    """The fsspec file system."""
    path: str = field(repr=False, compare=False)
    """Its path there."""

    @property
    def is_tar(self) -> bool:
        """Whether it is a tar file and not a parquet file."""
        return self.path.lower().endswith(".tar")

    def read(self, start: int, stop: int) -> bytes:
        """Read a range of bytes; from a server, with retries.

        Raises:
            FlatvqError: if it cannot be read, or the shard is shorter.
        """
        what = f"shard '{printable(self.url)}'"

        def request() -> bytes:
            content: bytes = self.fs.cat_file(self.path, start=start, end=stop)
            if len(content) < stop - start:
                raise _ShorterError
            return content

        try:
            content = request() if self.is_local else repeated(request)
        except _ShorterError:
            reason = f"{what} is shorter than its {self.size} bytes"
            raise FlatvqError(reason, "restore it, and start again: a run resumes") from None
        except Exception as error:  # each file system raises its own kinds
            reason = f"{what} cannot be read ({reason_of(error, self.path)})"
            raise FlatvqError(reason, "restore it, and start again: a run resumes") from None
        if len(content) > stop - start:
            what = f"the server of {what} does not read ranges of bytes"
            raise FlatvqError(what, "copy the shards to a disk, or use another server")
        return content

    def open(self) -> BinaryIO:
        """Open the shard to read it from start to end."""
        return cast("BinaryIO", io.BufferedReader(_Raw(self), _READ_AHEAD))


class Place(NamedTuple):
    """The location of an image in its shard."""

    group: int
    """The row group of a parquet file; 0 in a tar file."""
    offset: int
    """The row in the row group; the first byte in a tar file."""
    length: int
    """Bytes of the encoded image."""


class _Raw(io.RawIOBase):
    """A shard as a file."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._position = shard, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._shard.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._shard.size)
        if stop <= self._position:
            return 0
        content = self._shard.read(self._position, stop)
        buffer[: len(content)] = content
        self._position = stop
        return len(content)
