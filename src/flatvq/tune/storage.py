"""The storage of a search: a file in its folder, or a database that several machines share."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from flatvq.appended import AppendedFile
from flatvq.errors import FlatvqError, StorageError

__all__ = ["open_storage", "require_no_password", "storage_errors", "storage_name", "workers_lock"]

_RETRY_SECONDS = 1.0
# Keys of the query of a URL, by the names of the drivers.
_PASSWORDS = {"password", "passwd", "pwd", "sslpassword"}


def open_storage(folder: Path, url: str | None) -> optuna.storages.BaseStorage | str:
    """Open the storage of a search.

    Args:
        folder: the folder of the search, for the journal. If it has workers, which may run on several hosts,
            the journal has a lock that all of them see.
        url: the URL of a database; None for a journal in the folder.

    Raises:
        FlatvqError: if the database cannot be opened, or the journal is damaged.
    """
    if url is not None:
        return _database(url, tries=3)
    return _journal(folder.resolve() / "journal.log", shared=(folder / "workers").is_dir())


@contextmanager
def storage_errors(url: str | None) -> Iterator[None]:
    """Turn errors of the database while a search runs into one error with its message.

    Args:
        url: the URL of the storage.

    Raises:
        StorageError: if the database fails in the context.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        what = f"the storage '{storage_name(url)}' failed ({_first_line(error)})"
        raise StorageError(what, "repair it, then run the same command again") from error


def storage_name(url: str | None) -> str:
    """Return the URL of a storage without its password, for messages.

    Example:
        >>> storage_name("postgresql+psycopg://me:secret@host/searches")
        'postgresql+psycopg://me:***@host/searches'
    """
    try:
        return make_url(url or "").render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):  # a URL that is not valid
        return re.sub(r"(//[^/@]*?:)[^@]*@", r"\1***@", url or "")


def require_no_password(url: str | None) -> None:
    """Refuse a URL with a password if jobs of a cluster use it, because their scripts hold it.

    Args:
        url: the URL of a storage; None for the journal.

    Raises:
        FlatvqError: if it holds a password. The error does not show it.

    Example:
        >>> require_no_password("postgresql+psycopg://me@host/searches?sslmode=require")
    """
    try:
        parsed = make_url(url or "sqlite://")
    except (SQLAlchemyError, ValueError):  # `open_storage` says what is wrong
        return
    if parsed.password or _PASSWORDS & {key.lower() for key in parsed.query}:
        what = "the URL of --storage holds a password, which the scripts of jobs would hold, too"
        remedy = "leave it out, and let PostgreSQL read it from ~/.pgpass, PGPASSFILE or PGSERVICEFILE"
        raise FlatvqError(what, remedy)


@contextmanager
def workers_lock(folder: Path) -> Iterator[None]:
    """Hold a lock that one worker of a search has at a time, on all hosts that share its folder.

    Args:
        folder: the folder of the search.
    """
    lock = _lock_of(folder.resolve() / "workers" / "new", shared=True)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _journal(path: Path, shared: bool) -> optuna.storages.BaseStorage:
    lock = _lock_of(path, shared)
    lock.acquire()
    try:
        _repair(path)
    finally:
        lock.release()
    try:
        return optuna.storages.JournalStorage(_Journal(path, lock))
    except (KeyError, TypeError, ValueError) as error:  # valid JSON, but not a log of Optuna
        raise _damaged(path, type(error).__name__) from None


def _repair(path: Path) -> None:
    """Remove a last line that a kill cut off, since the next line would be appended to it.

    Raises:
        FlatvqError: if another line is damaged.
    """
    content = path.read_bytes() if path.exists() else b""
    complete = content[: content.rfind(b"\n") + 1]
    if complete != content:
        os.truncate(path, len(complete))
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            raise _damaged(path, f"line {number}") from None


def _damaged(path: Path, detail: str) -> FlatvqError:
    return FlatvqError(f"the journal '{path}' is damaged ({detail})", "repair it, or choose another --out")


def _database(url: str, tries: int) -> optuna.storages.BaseStorage | str:
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # drivers raise errors of any type
        # Two searches that open a new database at the same time both create its tables, and one fails.
        if tries > 1 and isinstance(error, (SQLAlchemyError, StorageInternalError)):
            time.sleep(_RETRY_SECONDS)
            return _database(url, tries - 1)
        what = f"cannot open the storage '{storage_name(url)}' ({_first_line(error)})"
        raise FlatvqError(what, "see the documentation of Optuna for valid URLs") from None


def _first_line(error: Exception) -> str:
    """Return the first line of the error of the database, from which Optuna raises its own error."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}"


def _lock_of(journal: Path, shared: bool) -> JournalFileOpenLock:
    if not find_spec("fcntl"):  # on Windows
        return JournalFileOpenLock(str(journal))
    return _SharedLock(journal) if shared else _KernelLock(journal)


class _Journal(JournalFileBackend):
    """Appends complete lines or nothing.

    A part of a line, written to a disk that fills up, would damage the line that is appended next.
    """

    def __init__(self, path: Path, lock: JournalFileOpenLock) -> None:
        super().__init__(str(path), lock)
        self.path, self.lock = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append the lines and force them to the disk.

        Raises:
            OSError: if they cannot be written; it names the journal.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with closing(AppendedFile(self.path)) as file:
                file.write(lines.encode())
                file.sync()
        finally:
            self.lock.release()


class _KernelLock(JournalFileOpenLock):
    """A lock that the kernel releases when its process ends, even by SIGKILL.

    The locks of Optuna are files. A search that is killed while it writes leaves its lock file behind, and
    the next search waits half a minute for it, or forever if the path of the journal is relative.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.path = journal.with_name(journal.name + ".lock")
        self.held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        import fcntl

        self.held = self.path.open("wb")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Release the lock."""
        assert self.held is not None
        self.held.close()
        self.held = None


class _SharedLock(_KernelLock):
    """A lock that processes on all hosts of a shared file system see.

    The kernel's lock may be visible on one host only, so the process that has it also creates a lock file. If
    its host is lost while it writes, the others wait half a minute, then remove the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(journal)
        self.across = JournalFileOpenLock(str(journal.with_name(journal.name + ".hosts")))

    def acquire(self) -> bool:
        """Wait for both locks and take them."""
        super().acquire()
        return self.across.acquire()

    def release(self) -> None:
        """Release both locks."""
        try:
            self.across.release()
        finally:
            super().release()
