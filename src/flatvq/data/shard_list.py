"""Lists shards: the files of a folder, of a URL or of a pattern with wildcards and braces."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from flatvq.data.reasons import printable
from flatvq.data.remote import limit_silence, repeated, unreachable
from flatvq.data.shard import Shard
from flatvq.data.walk import is_hidden
from flatvq.errors import FlatvqError
from flatvq.paths import expanded, require_no_credentials

__all__ = ["are_shards", "list_shards"]

_SUFFIXES = (".tar", ".parquet")
_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|lz4|zst)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
# What a file system says of a file that identifies its state: times, tags and hashes, by its own names.
_STATES = re.compile(
    r"e-?tag|m_?time|ctime|created|(last-?)?_?modified|lastmodified|updated|generation|version_?id"
    r"|(content-)?md5(hash)?|crc32c|digest",
    re.IGNORECASE,
)


def are_shards(path: str) -> bool:
    """Return whether a path names shards and not a folder of images.

    Example:
        >>> are_shards("train/*.{tar,parquet}"), are_shards("s3://photos"), are_shards("photos")
        (True, True, False)
    """
    return "://" in path or _has_suffix(next(_without_braces(path)))


def _has_suffix(path: str) -> bool:
    return path.lower().endswith(_SUFFIXES)


def list_shards(pattern: str, key: str) -> tuple[Shard, ...]:
    """Find the shards of a pattern.

    Args:
        pattern: a folder, a file or a URL of one, with the wildcards of a shell and braces: `{a,b}` stands
            for a or b, `{000..127}` for numbers.
        key: the name of the setting in an error, such as `data.path`.

    Returns:
        The shards, ordered by their URLs.

    Raises:
        FlatvqError: if there is none, or one cannot be reached or is compressed.
    """
    if not pattern:
        raise FlatvqError(f"{key} is empty", f"set {key} to a folder or a pattern of .tar or .parquet shards")
    require_no_credentials(pattern)
    located = dict(_located(pattern, key))
    if not located:
        what = f"no .tar or .parquet shard at '{printable(pattern)}'"
        raise FlatvqError(what, f"check {key}")
    folders = {PurePosixPath(url).parent.as_posix() for url in located}
    if len({"://" in url for url in located}) > 1:
        raise FlatvqError(f"'{printable(pattern)}' names files and URLs", f"give one or the other in {key}")
    common = os.path.commonpath(folders)
    return tuple(_shard(url, common, *located[url], key) for url in sorted(located))


def _located(pattern: str, key: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield the URL of each shard, its file system and its path there."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    for url in _without_braces(pattern):
        try:
            fs, path = url_to_fs(url if "://" in url else str(expanded(url)))
            local = _is_local(fs)
            limit_silence(fs)
            paths = _paths(fs, path) if local else repeated(partial(_paths, fs, path))
        except Exception as error:
            raise unreachable(url, error, key) from None
        for each in paths:
            if _COMPRESSED.search(each):
                what = f"'{printable(each)}' is compressed, so that no part of it can be read on its own"
                raise FlatvqError(what, f"decompress it, or set {key} to a pattern that leaves it out")
            if _has_suffix(each) or each == path:
                yield (each if local else fs.unstrip_protocol(each)), (fs, each)


def _is_local(fs: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

    return isinstance(fs, LocalFileSystem)


def _paths(fs: Any, path: str) -> list[str]:
    """Return the files that match a path, and those in folders that it names, without hidden ones."""
    fs.invalidate_cache()
    local = _is_local(fs)
    if set("*?[") & set(path) and not (local and os.path.lexists(path)):
        matches = fs.glob(path, detail=True)
        folders = [
            each for each, info in matches.items() if info["type"] == "directory" and _has_suffix(each)
        ]
        files = [each for each in matches if each not in folders]
        if not is_hidden(PurePosixPath(path).name):  # as in a shell
            files = [file for file in files if not is_hidden(PurePosixPath(file).name)]
    else:
        # A request for a folder, unless it is clear that a URL names a file.
        folders = [path] if (local or not _has_suffix(path)) and fs.isdir(path) else []
        files = [] if folders else [path]
    return files + [file for folder in folders for file in _visible(fs.find(folder), folder)]


def _visible(paths: Iterable[str], folder: str) -> list[str]:
    """Return the paths without a hidden name below a folder."""
    return [path for path in paths if not any(map(is_hidden, path.removeprefix(folder).split("/")))]


def _without_braces(pattern: str) -> Iterator[str]:
    """Yield the patterns that one with braces stands for.

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
    if not _has_suffix(path):
        what = f"'{printable(url)}' is neither a folder nor a .tar or .parquet file"
        raise FlatvqError(what, f"check {key}")
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
