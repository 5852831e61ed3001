"""Atomic writes: a reader sees the old content or the new content, never a part of it.

Content is written under a temporary name in the folder of the target, synced to disk and renamed. It contains
the start of the target's name (file systems allow 255 bytes), the process and thread ID of the writer, and a
checksum of its host:

    FOLDER/.NAME.PROCESS-THREAD-HOST.partial

Readers ignore such names. The next write into a folder removes what killed processes of this host left there,
and what those of other hosts left a day ago.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

__all__ = [
    "finite",
    "remove_folder",
    "remove_leftovers",
    "replacing_folder",
    "staged",
    "temporary_name",
    "write_bytes",
    "write_json",
    "write_text",
]

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})-(\d{1,9})(?:-([0-9a-f]{8}))?\.partial")
_DAY = 86_400.0
_STAGES: dict[Path, Path] = {}  # see `staged`


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        content: the whole new content.

    Raises:
        OSError: if the file cannot be written, such as on a full disk. The error names `path`. The old file
            is unchanged, and the temporary file is removed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder) / "codes.bin", b"new")
        ...     [(file.name, file.read_bytes()) for file in Path(folder).iterdir()]
        [('codes.bin', b'new')]
    """
    with _temporary(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8. The line ends of `text` are kept.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        text: the whole new content.

    Raises:
        OSError: see `write_bytes`.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically. NaN and infinity become null.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        value: any value that JSON can represent.

    Raises:
        OSError: see `write_bytes`.
    """
    write_text(path, json.dumps(finite(value), indent=1, allow_nan=False))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: yield a temporary folder, which becomes `path` when the block ends.

    The files of the temporary folder are synced to disk before the rename. If the block raises, the temporary
    folder is removed and `path` is unchanged. The parent folder is created if it does not exist.

    Args:
        path: the folder; replaced if it exists.

    Yields:
        The temporary folder, empty.

    Raises:
        OSError: see `write_bytes`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with replacing_folder(Path(folder) / "step-1") as temporary:
        ...         _ = (temporary / "state.json").write_text("{}")
        ...     [file.name for file in (Path(folder) / "step-1").iterdir()]
        ['state.json']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path) as temporary:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as written:  # Windows syncs only files that are open for writing
                os.fsync(written.fileno())
        _sync_folder(temporary)
        if path.exists():
            remove_folder(path)
        temporary.rename(path)
    _sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and its content.

    The folder is renamed first, so that a kill never leaves a partly removed folder under its name.

    Args:
        path: the folder.

    Raises:
        OSError: if it cannot be renamed or removed.
    """
    renamed = temporary_name(path.with_name(f"{path.name}.removed"))
    path.rename(renamed)
    shutil.rmtree(renamed)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Args:
        folder: the folder. Its sub-folders are not searched.
    """
    for entry in folder.iterdir():
        if match := _TEMPORARY.fullmatch(entry.name):
            if match[3] not in (None, _host()):  # None: of an earlier version
                if _is_old(entry):
                    _remove(entry)
                continue
            process, thread = int(match[1]), int(match[2])
            # This process may have the ID of a killed one. A thread writes one file at a time, so a temporary
            # file with the IDs of this thread is a leftover.
            mine = (process, thread) == (os.getpid(), threading.get_native_id())
            if mine or not _is_running(process):
                _remove(entry)


@contextmanager
def staged(folder: Path, stage: Path) -> Iterator[None]:
    """Put the temporary files of all writes below a folder into another folder while the context lasts.

    When another process removes that folder, later writes fail and change nothing.

    Args:
        folder: the folder below which files are written.
        stage: a folder on the same disk.
    """
    folder = folder.absolute()
    _STAGES[folder] = stage
    try:
        yield
    finally:
        del _STAGES[folder]


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON cannot represent, by None.

    Args:
        value: a number, a string, None, or nested dictionaries, lists and tuples of them.

    Returns:
        The value with None for each number that is not finite. Tuples become lists.

    Example:
        >>> finite({"loss": float("nan"), "levels": [1.0, float("inf")]})
        {'loss': None, 'levels': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`. Remove the file or folder of that name on an error."""
    remove_leftovers(path.parent)
    temporary = temporary_name(path)
    try:
        yield temporary
    except BaseException as error:
        _remove(temporary)
        raise _named(error, path) from error


def _named(error: BaseException, path: Path) -> BaseException:
    """Name `path` in an OSError: errors of writes name no file, and others name the temporary file."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, str(path))
    return error


def temporary_name(path: Path) -> Path:
    """Return the temporary name of a file or folder, which `remove_leftovers` recognizes."""
    stages = (stage for folder, stage in _STAGES.items() if path.absolute().is_relative_to(folder))
    writer = f"{os.getpid()}-{threading.get_native_id()}-{_host()}"
    return next(stages, path.parent) / f".{path.name[:50]}.{writer}.partial"


@cache
def _host() -> str:
    """Return eight hexadecimal digits that processes share if they see each other's IDs."""
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{crc32(f'{socket.gethostname()} {namespace}'.encode()):08x}"


def _is_old(path: Path) -> bool:
    """Return whether a file has not changed for a day. Clocks of hosts differ by less."""
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _DAY
    return False


def _is_running(process: int) -> bool:
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(process, 0)
        # On Linux an ended process is a zombie until its parent reads the exit code.
        return b") Z " not in Path(f"/proc/{process}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user, or no /proc
        return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # a file
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk. Ignore the error on systems that cannot, such as Windows."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
