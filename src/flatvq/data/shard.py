"""Shards: files on a disk or behind a URL of which ranges of bytes are read, with retries."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from flatvq.data.reasons import printable, reason_of
from flatvq.data.remote import limit_silence, repeated, unreachable
from flatvq.errors import FlatvqError
from flatvq.paths import expanded, require_no_credentials

__all__ = ["SUFFIXES", "Place", "Shard", "are_shards", "list_shards"]

SUFFIXES = (".tar", ".parquet")
"""Suffixes of shards."""

# What a file system says of a file that identifies its state: times, tags and hashes, by its own names.
_STATES = re.compile(
    r"e-?tag|m_?time|ctime|created|(last-?)?_?modified|lastmodified|updated|generation|version_?id"
    r"|(content-)?md5(hash)?|crc32c|digest",
    re.IGNORECASE,
)
_READ_AHEAD = 8 * 2**20


class _ShorterError(Exception):
    """A file has fewer bytes than it had."""


@dataclass(frozen=True)
class Shard:
    """A file of many images.

    Example:
        >>> import fsspec
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


def are_shards(path: str) -> bool:
    """Return whether a path names shards and not a folder of images.

    Example:
        >>> are_shards("train/*.{tar,parquet}"), are_shards("s3://photos"), are_shards("photos")
        (True, True, False)
    """
    return "://" in path or next(_without_braces(path)).endswith(SUFFIXES)


def list_shards(pattern: str, key: str) -> tuple[Shard, ...]:
    """Find the shards of a pattern.

    Args:
        pattern: a folder, a file or a URL of one, with the wildcards of a shell and braces: `{a,b}` stands
            for a or b, `{000..127}` for numbers.
        key: the name of the setting in an error, such as `data.path`.

    Returns:
        The shards, ordered by their URLs.

    Raises:
        FlatvqError: if there is none, or one cannot be reached.
    """
    if not pattern:
        raise FlatvqError(f"{key} is empty", f"set {key} to a folder or a pattern of .tar or .parquet shards")
    require_no_credentials(pattern)
    located = dict(_located(pattern, key))
    if not located:
        what = f"no .tar or .parquet shard at '{printable(pattern)}'"
        raise FlatvqError(what, f"check {key}")
    folders = {PurePosixPath(url).parent.as_posix() for url in located}
    common = os.path.commonpath(folders) if len(folders) > 1 else folders.pop()
    return tuple(_shard(url, common, *located[url], key) for url in sorted(located))


def _located(pattern: str, key: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield the URL of each shard, its file system and its path there."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    for url in _without_braces(pattern):
        local = "://" not in url
        try:
            fs, path = url_to_fs(str(expanded(url)) if local else url)
            limit_silence(fs)
            paths = _paths(fs, path) if local else repeated(partial(_paths, fs, path))
        except Exception as error:
            raise unreachable(url, error, key) from None
        for each in paths:
            if each.endswith(SUFFIXES) or each == path:
                yield (each if local else fs.unstrip_protocol(each)), (fs, each)


def _paths(fs: Any, path: str) -> list[str]:
    """Return the files that match a path."""
    fs.invalidate_cache()
    exists = "file" in fs.protocol and os.path.lexists(path)
    if not exists and set("*?[") & set(path):
        return list(fs.glob(path))
    if path.endswith(SUFFIXES) or not fs.isdir(path):
        return [path]
    return list(fs.find(path))


def _without_braces(pattern: str) -> Iterator[str]:
    """Expand the braces of a pattern, and yield the resulting patterns.

    Example:
        >>> list(_without_braces("{a,b}-{08..10}.tar"))
        ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", match[1]):
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        parts = [f"{number:0{width}}" for number in range(int(numbers[1]), int(numbers[2]) + 1)]
    else:
        parts = match[1].split(",")
    for part in parts:
        yield from _without_braces(pattern[: match.start()] + part + pattern[match.end() :])


def _shard(url: str, common: str, fs: Any, path: str, key: str) -> Shard:
    name = printable(PurePosixPath(url).relative_to(common).as_posix())
    if not path.endswith(SUFFIXES):
        what = f"'{printable(url)}' is neither a folder nor a .tar or .parquet file"
        raise FlatvqError(what, f"check {key}; a compressed tar file has to be decompressed")
    try:
        if "://" not in url:
            status = Path(path).stat()
            return Shard(
                name, url, status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}", True, fs, path
            )
        info = dict(repeated(partial(fs.info, path)))
    except Exception as error:
        raise unreachable(url, error, key) from None
    if info.get("size") is None:
        what = f"the server of '{printable(url)}' does not state its size"
        raise FlatvqError(what, "copy the shards to a disk, or use another server")
    state = {name: str(value) for name, value in info.items() if _STATES.fullmatch(name)}
    return Shard(name, url, int(info["size"]), repr(sorted(state.items())), False, fs, path)
