"""Where a search keeps what was tried: a file in its folder, or a database that several machines share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import SQLAlchemyError

from flatvq.errors import FlatvqError, StorageError
from flatvq.files import AppendedFile

__all__ = ["open_storage", "telling_failures"]

_PATIENCE_SECONDS = 1.0


def open_storage(folder: Path, url: str | None) -> optuna.storages.BaseStorage | str:
    """Open the storage of a search: a journal in its folder, or the database of a URL.

    Raises:
        FlatvqError: if there is no such database, or the journal is damaged.
    """
    return _journal(folder.resolve() / "journal.log") if url is None else _database(url, tries=3)


@contextmanager
def telling_failures(url: str | None) -> Iterator[None]:
    """Tell of a database that fails while a search runs.

    Args:
        url: the storage's.

    Raises:
        StorageError: with what the database said.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        what = f"the storage {url!r} failed ({_first_line(error)})"
        raise StorageError(what, "run the same command again when it works") from error


def _journal(path: Path) -> optuna.storages.BaseStorage:
    lock = _lock_of(path)
    lock.acquire()
    try:
        _check(path)
    finally:
        lock.release()
    try:
        return optuna.storages.JournalStorage(_Journal(path, lock))
    except (KeyError, TypeError, ValueError) as error:  # JSON that is not Optuna's
        raise _damaged(path, type(error).__name__) from None


def _check(path: Path) -> None:
    """Drop a last line that a kill cut off, since the next would run on from it; refuse other damage."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError:
            raise _damaged(path, f"line {number}") from None


def _damaged(path: Path, how: str) -> FlatvqError:
    return FlatvqError(f"the journal '{path}' is damaged ({how})", "mend it, or choose another --out")


def _database(url: str, tries: int) -> optuna.storages.BaseStorage | str:
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # whatever the database's driver raises
        # Two searches that come first at the same time both make the tables, and one of them fails.
        if tries > 1 and isinstance(error, (SQLAlchemyError, StorageInternalError)):
            time.sleep(_PATIENCE_SECONDS)
            return _database(url, tries - 1)
        what = f"cannot open the storage {url!r} ({_first_line(error)})"
        raise FlatvqError(what, "see Optuna's documentation of URLs") from None


def _first_line(error: Exception) -> str:
    """Return what the database said; Optuna's own errors are raised from it."""
    said = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return f"{type(said).__name__}: {(str(said).splitlines() or [''])[0]}"


def _lock_of(journal: Path) -> JournalFileOpenLock:
    # Windows has no such module.
    return _KernelLock(journal) if find_spec("fcntl") else JournalFileOpenLock(str(journal))


class _Journal(JournalFileBackend):
    """Appends whole lines or nothing: after a part of one, on a full disk, the next would be damaged."""

    def __init__(self, path: Path, lock: JournalFileOpenLock) -> None:
        super().__init__(str(path), lock)
        self.path, self.lock = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append and sync; an error names the journal."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with closing(AppendedFile(self.path)) as file:
                file.write(lines.encode())
                file.sync()
        finally:
            self.lock.release()


class _KernelLock(JournalFileOpenLock):
    """A lock that the kernel lets go of, however its holder ends.

    Optuna's own locks are files: a search that is killed while it writes leaves one behind, and the next
    search waits for it for half a minute, or forever where the journal's path is relative.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.path = journal.with_name(journal.name + ".lock")
        self.held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for it, and take it."""
        import fcntl

        self.held = self.path.open("wb")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let others take it."""
        assert self.held is not None
        self.held.close()
        self.held = None
