"""Folders and files that a command leaves only if it succeeds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flatvq.files import remove_leftovers, temporary_name

__all__ = ["adding_files", "created_folder"]


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents. If the block raises, remove those that did not exist and are empty.

    Args:
        folder: the folder; it may exist.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     try:
        ...         with created_folder(Path(parent) / "a" / "b"):
        ...             raise ValueError
        ...     except ValueError:
        ...         list(Path(parent).iterdir())
        []
    """
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in created:
            with suppress(OSError):  # not empty, for example because another process writes there
                each.rmdir()
        raise


@contextmanager
def adding_files(folder: Path) -> Iterator[Path]:
    """Write files into a folder together: yield a temporary folder, whose files move there at the end.

    If the block raises, `folder` is unchanged; if it did not exist, it does not exist afterwards.

    Args:
        folder: the folder; created if it does not exist. Its other files stay, and files of the same names
            are replaced.

    Yields:
        The temporary folder, empty. It may get sub-folders.

    Raises:
        OSError: if a file cannot be written, such as on a full disk. The error names `folder`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with adding_files(Path(folder) / "new") as temporary:
        ...         _ = (temporary / "encoder.onnx").write_bytes(b"")
        ...     [file.name for file in (Path(folder) / "new").iterdir()]
        ['encoder.onnx']
    """
    with created_folder(folder):
        remove_leftovers(folder)
        temporary = temporary_name(folder / "files")
        try:
            temporary.mkdir()
            yield temporary
            for file in sorted(path for path in temporary.rglob("*") if path.is_file()):
                _move(file, folder / file.relative_to(temporary))
            shutil.rmtree(temporary)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _named(error, temporary, folder) from error


def _move(file: Path, target: Path) -> None:
    with file.open("rb+") as written:  # Windows syncs only files that are open for writing
        os.fsync(written.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    file.replace(target)


def _named(error: BaseException, temporary: Path, folder: Path) -> BaseException:
    """Name `folder` in an OSError that names the temporary folder, or nothing."""
    if not isinstance(error, OSError) or error.errno is None:
        return error
    if error.filename is not None and not str(error.filename).startswith(str(temporary)):
        return error
    return OSError(error.errno, error.strerror, str(folder))
