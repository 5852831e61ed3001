"""Atomic writes: a reader finds the old content or the new content, never a part of it.

Content is written under a temporary name in the folder of the target, synced to disk and renamed. The
temporary name holds the process and the thread that write it:

    FOLDER/.NAME.PROCESS-THREAD.partial

No reader uses such a name. A process that is killed leaves its temporary file behind; the next write into the
same folder removes it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "AppendedFile",
    "finite",
    "remove_folder",
    "remove_leftovers",
    "replacing_folder",
    "write_bytes",
    "write_json",
    "write_text",
]

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})-(\d{1,9})\.partial")


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        content: all of the new content.

    Raises:
        OSError: if it cannot be written, such as on a full disk. The error names `path`; the old file is
            unchanged and no temporary file is left.

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
    """Write a text file atomically, in UTF-8 and with the line ends of `text`.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        text: all of the new content.

    Raises:
        OSError: as `write_bytes`.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity are written as null.

    Args:
        path: the file; replaced if it exists. Its folder must exist.
        value: what JSON can hold.

    Raises:
        OSError: as `write_bytes`.
    """
    write_text(path, json.dumps(finite(value), indent=1, allow_nan=False))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: yield a temporary folder, which becomes `path` when the block ends.

    The files of the temporary folder are synced to disk first. If the block raises, the temporary folder is
    removed and `path` is unchanged. The parent folder is made if it does not exist.

    Args:
        path: the folder; removed first if it exists.

    Raises:
        OSError: as `write_bytes`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with replacing_folder(Path(folder) / "step-1") as place:
        ...         _ = (place / "state.json").write_text("{}")
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
    """Remove a folder and its content; a kill never leaves a part of it under its own name."""
    aside = _temporary_name(path.with_name(f"{path.name}.removed"))
    path.rename(aside)
    shutil.rmtree(aside)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files and folders that they wrote or removed in a folder."""
    for entry in folder.iterdir():
        if match := _TEMPORARY.fullmatch(entry.name):
            process, thread = int(match[1]), int(match[2])
            # A new process may have the number of one that was killed; this thread writes one file at a time.
            mine = (process, thread) == (os.getpid(), threading.get_native_id())
            if mine or not _is_running(process):
                _remove(entry)


class AppendedFile:
    """A file that only grows, by pieces; after an error it ends with the last whole piece.

    A kill can leave a part of the last piece.

    Args:
        path: the file; made if it does not exist.

    Raises:
        OSError: if it cannot be opened or written; the error names `path`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = AppendedFile(Path(folder) / "records.jsonl")
        ...     file.write(b"1")
        ...     file.write(b"2")
        ...     file.close()
        ...     file.path.read_bytes()
        b'12'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Without O_BINARY, Windows writes a carriage return before each line feed.
        self._descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)

    def write(self, piece: bytes) -> None:
        """Append a piece and hand it to the kernel, so that a killed process does not lose it."""
        before = os.fstat(self._descriptor).st_size
        left = memoryview(piece)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BaseException as error:
            os.ftruncate(self._descriptor, before)
            raise _named(error, self.path) from error

    def sync(self) -> None:
        """Force the content to the disk, so that a power failure does not lose it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None.

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
    """Yield a temporary name beside a path; remove what has it if the block raises."""
    remove_leftovers(path.parent)
    temporary = _temporary_name(path)
    try:
        yield temporary
    except BaseException as error:
        _remove(temporary)
        raise _named(error, path) from error


def _named(error: BaseException, path: Path) -> BaseException:
    """Put the file into an error of the system; those of writes name none, others the temporary one."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, str(path))
    return error


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
        # On Linux a process that ended is a zombie until its parent asks for the exit code.
        return b") Z " not in Path(f"/proc/{process}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:  # of another user, or there is no /proc
        return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, where the system can: Windows and some network drives cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
