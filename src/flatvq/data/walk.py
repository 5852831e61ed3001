"""List all files under a folder in a fixed order."""

from __future__ import annotations

import os
import stat
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatvq.data.manifest import Array
from flatvq.data.reasons import printable, reason_of
from flatvq.data.types import FileStatus
from flatvq.errors import FlatvqError
from flatvq.paths import expanded
from flatvq.regular import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FILE_TIMES",
    "Listing",
    "claims_an_image",
    "existing_folder",
    "hidden_status",
    "is_hidden",
    "list_files",
]

FILE_TIMES = ("size", "mtime_ns", "ctime_ns")
"""What identifies the state of a file without reading it: its size, the time of the last change of its
content, and the time of the last change of its content or attributes."""

# Suffixes that promise an image. The content decides whether a file is one. The suffix only decides whether a
# file that is not one is listed as unreadable.
_IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "avif", "gif", "tif", "tiff", "bmp", "dib"),
        *("jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm", "ico", "qoi", "heic", "heif", "jxl"),
    )
)


@dataclass(frozen=True)
class Listing:
    """The content of a folder and its sub-folders, with N regular files."""

    paths: pa.LargeBinaryArray
    """Paths of the files in the folder, as the file system has them, ordered as text."""
    times: Mapping[str, Array]
    """int64 [N] by the names `FILE_TIMES`."""
    file_statuses: tuple[FileStatus, ...]
    """Everything that is not a regular file, and the number of hidden files."""

    def path(self, number: int) -> str:
        """Return the path of a file in the folder."""
        return os.fsdecode(self.paths[number].as_py())


class _Run(NamedTuple):
    """Files of one folder that follow each other in the order of all paths."""

    first: str
    """Path of the first."""
    paths: pa.LargeBinaryArray
    times: Array
    """int64 [N, 3]."""


def claims_an_image(path: str) -> bool:
    """Return whether the suffix of a path promises an image.

    Example:
        >>> claims_an_image("cats/tom.JPG"), claims_an_image("cats/tom.txt")
        (True, False)
    """
    return PurePath(path).suffix.lower() in _IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Return whether a name in a folder or an archive is left out: with a dot in front, or `__MACOSX`.

    Example:
        >>> is_hidden(".DS_Store"), is_hidden("__MACOSX"), is_hidden(".."), is_hidden("cats")
        (True, True, False, False)
    """
    return name == "__MACOSX" or (name.startswith(".") and name not in (".", ".."))


def hidden_status(count: int, split: str) -> FileStatus:
    """Return the status of a number of hidden names."""
    reason = "named with a dot in front, or __MACOSX"
    return FileStatus(f"hidden ({count} entries)", split, "skipped", reason)


def existing_folder(path: str | Path, key: str) -> Path:
    """Return a folder that the user named, after checking that it exists.

    Args:
        path: the path as the user wrote it; `~` is the home folder.
        key: the name of the setting in an error, such as `data.path`.

    Raises:
        FlatvqError: if the path is empty, does not exist, is not a folder, or cannot be reached.

    Example:
        >>> existing_folder("nowhere", "data.path")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': check data.path
    """
    if not str(path):
        raise FlatvqError(f"{key} is empty", f"set {key} to a folder of images")
    folder = expanded(path)
    shown = printable(str(path))
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise FlatvqError(f"no folder at '{shown}'", f"check {key}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise FlatvqError(
            f"no folder at '{shown}' ({reason_of(error, str(folder))})", f"check {key}"
        ) from None
    if not stat.S_ISDIR(mode):
        what = f"'{shown}' is a file, not a folder"
        raise FlatvqError(what, f"set {key} to the folder that holds the images")
    return folder


def list_files(folder: Path, split: str) -> Listing:
    """List all regular files under a folder, without opening them.

    Links are followed, but no folder is entered twice, nor a folder that contains the given one.

    Args:
        folder: an existing folder.
        split: the name of the set in file statuses.

    Returns:
        The files in the order of their paths, and the status of everything else.

    Raises:
        FlatvqError: if the folder itself cannot be listed.
    """
    runs: list[_Run] = []
    file_statuses: dict[str, FileStatus] = {}
    hidden = 0
    entered = set(_identities(folder))
    pending = [""]  # paths of folders, relative to `folder`
    while pending:
        parent = pending.pop()
        try:
            with os.scandir(folder / parent) as scan:
                children = sorted(scan, key=lambda child: child.name)
        except OSError as error:
            reason = f"cannot be listed ({reason_of(error, parent or str(folder))})"
            if not parent:
                what = f"folder '{printable(str(folder))}' {reason}"
                raise FlatvqError(what, "check the path and its permissions") from None
            file_statuses[parent] = _unreadable(f"{parent}/", split, f"folder {reason}")
            continue
        prefix = f"{parent}/" if parent else ""
        files: list[str] = []
        folders: list[str] = []
        times: list[tuple[int, int, int]] = []
        for child in children:
            name = child.name
            if is_hidden(name):
                hidden += 1
                continue
            result = _classify(child, prefix + name, split, entered)
            if isinstance(result, FileStatus):
                file_statuses[prefix + name] = result
            elif result is None:
                folders.append(name)
            else:
                files.append(name)
                times.append((result.st_size, result.st_mtime_ns, result.st_ctime_ns))
        runs += _runs(prefix, files, times, folders)
        pending += [prefix + name for name in folders]
    ordered_statuses = [file_statuses[path] for path in sorted(file_statuses)]
    if hidden:
        ordered_statuses.append(hidden_status(hidden, split))
    return _listing(runs, tuple(ordered_statuses))


def _runs(
    prefix: str, files: Sequence[str], times: Sequence[tuple[int, int, int]], folders: Sequence[str]
) -> Iterator[_Run]:
    """Divide the sorted files of a folder where the paths of its sub-folders come between them."""
    import pyarrow as pa

    cuts = sorted({bisect(files, f"{name}/") for name in folders} | {0, len(files)})
    for start, stop in pairwise(cuts):
        paths = [os.fsencode(prefix + name) for name in files[start:stop]]
        yield _Run(
            prefix + files[start], pa.array(paths, pa.large_binary()), np.array(times[start:stop], np.int64)
        )


def _listing(runs: list[_Run], file_statuses: tuple[FileStatus, ...]) -> Listing:
    import pyarrow as pa

    runs.sort(key=lambda run: run.first)
    paths = pa.concat_arrays([pa.array([], pa.large_binary()), *(run.paths for run in runs)])
    times = np.concatenate([np.empty((0, len(FILE_TIMES)), np.int64), *(run.times for run in runs)])
    columns = {name: np.ascontiguousarray(times[:, number]) for number, name in enumerate(FILE_TIMES)}
    return Listing(paths, columns, file_statuses)


def _classify(
    child: os.DirEntry[str], path: str, split: str, entered: set[tuple[int, int]]
) -> os.stat_result | FileStatus | None:
    """Classify an entry of a folder.

    Returns:
        The `os.stat_result` of a regular file; None for a folder to enter; the `FileStatus` of anything else.
    """
    try:
        status = child.stat()
    except OSError as error:
        what = "broken link" if child.is_symlink() else "cannot be read"
        return _unreadable(path, split, f"{what} ({reason_of(error, path)})")
    if stat.S_ISREG(status.st_mode):
        return status
    if stat.S_ISDIR(status.st_mode):
        if _identity(status) in entered:
            return FileStatus(
                printable(path) + "/", split, "skipped", "a link to a folder that is read already"
            )
        entered.add(_identity(status))
        return None
    return FileStatus(printable(path), split, "skipped", kind_of(status.st_mode))


def _unreadable(path: str, split: str, reason: str) -> FileStatus:
    """Return the status of an entry that cannot be read and may be an image."""
    return FileStatus(printable(path), split, "unreadable", reason)


def _identities(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the identity of a folder and of each folder that contains it, if it can be read."""
    for path in (folder, *Path(os.path.realpath(folder)).parents):
        with suppress(OSError):
            yield _identity(path.stat())


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
