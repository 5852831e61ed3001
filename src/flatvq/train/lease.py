"""A lease on a run folder: one process at a time writes into it, even if several hosts share the file system.

    RUN/.lease/00000003/            the attempt that owns the run: the highest number
    RUN/.lease/00000003/owner.json  host, process, state, and a count that its owner raises every 10 seconds

    RUN/.lease/00000003/5f0c2a9e/   its temporary files; no other attempt has a folder with this name

To claim the run, a process creates the folder of the next attempt; the file system lets only one process
create it. Before an owner reads anything, it removes the folders of earlier attempts. All temporary files of
an owner are in a folder of its attempt (`flatvq.files.staged`). From then on an earlier owner cannot rename
anything into the run, even if it was paused between its last check and the rename. The random name makes this
hold even if the attempts were removed and are counted from 1 again.

A waiting process uses only its own monotonic clock: if it sees no change of the owner's count for 60 seconds,
the owner counts as ended. A pause of the waiting process, such as of a whole virtual machine, counts as one
heartbeat at most. The clocks of hosts are not compared. On one host the process ID shows at once that an
owner has ended.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.files import staged
from flatvq.train.lock import flock_of
from flatvq.train.owner import Owner, has_ended, parsed_owner, this_process

__all__ = ["BusyError", "Lease", "LeaseLostError", "Timing", "leased", "newest_owner"]

_FOLDER, _OWNER = ".lease", "owner.json"


class BusyError(FlatvqError):
    """Another process writes into the folder."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class LeaseLostError(BusyError):
    """Another process took the run over while this one did not respond."""


@dataclass(frozen=True)
class Timing:
    """The intervals of a lease, and the clock that measures them."""

    beat: float = 10.0
    """Seconds between two heartbeats."""
    expiry: float = 60.0
    """Seconds without a heartbeat after which an owner counts as ended."""
    poll: float = 0.2
    """Seconds between two reads of owner.json by a waiting process."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


TIMING = Timing()


class Lease:
    """A lease that this process holds.

    Args:
        run: the folder that it is on.
        stage: the folder of its temporary files, inside the folder of the attempt.
    """

    def __init__(self, run: Path, stage: Path) -> None:
        self.run, self.stage = run, stage
        self.on_loss: Callable[[], None] = lambda: None
        """Called in another thread when the lease is found to be lost."""

    @property
    def folder(self) -> Path:
        """The folder of the attempt."""
        return self.stage.parent

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        return int(self.folder.name)

    def confirm(self) -> None:
        """Return if this process still holds the lease.

        Raises:
            LeaseLostError: if another process has it.
        """
        if _newest(self.folder.parent) != self.attempt or not self.stage.is_dir():
            owner = newest_owner(self.run)[1]
            by = f"process {owner.process} on {owner.host}" if owner else "another process"
            what = f"{by} took '{self.run}' over while this process did not respond"
            raise LeaseLostError(what, "let it finish; this process has changed nothing since")


@contextmanager
def leased(
    run: Path,
    timeout: float = 30.0,
    activity: str = "training",
    timing: Timing | None = None,
    *,
    remove: bool = False,
) -> Iterator[Lease]:
    """Hold the lease on a folder while the context lasts.

    Args:
        run: the folder.
        timeout: seconds to wait for a live owner. To detect that an owner has ended can take `timing.expiry`
            seconds more.
        activity: what processes do with the folder, for the error.
        timing: by default a heartbeat each 10 seconds, and 60 seconds until an owner counts as ended.
        remove: whether to remove all files of the lease when it is released.

    Raises:
        BusyError: if another process still holds the lease after the timeout.
        LeaseLostError: if the block raises an error after another process took over. It replaces that error.
    """
    timing = timing or TIMING
    with ExitStack() as held:
        if remove:  # after the lock is closed: some network drives keep an open file under another name
            held.callback(_remove_file, run / ".lock")
        lease = _wait_and_claim(run, held.enter_context(flock_of(run)), timeout, activity, timing)
        held.enter_context(staged(run, lease.stage))
        ended = threading.Event()
        beats = threading.Thread(target=_keep_beating, args=(lease, ended, timing.beat), daemon=True)
        beats.start()
        try:
            yield lease
        except Exception:
            lease.confirm()
            raise
        finally:
            ended.set()
            beats.join()
            with suppress(OSError):
                if remove:
                    _remove_attempt(lease)
                else:
                    _write(lease.stage, replace(this_process(), held=False))


def newest_owner(run: Path) -> tuple[int, Owner | None]:
    """Read who owns a run, or owned it last.

    Returns:
        The number of attempts, and the owner; None if there was none or its file is missing or damaged.
    """
    root = run / _FOLDER
    attempt = _newest(root)
    return attempt, parsed_owner(_content(root / f"{attempt:08d}")) if attempt else None


def _wait_and_claim(
    run: Path, try_lock: Callable[[], bool], timeout: float, activity: str, timing: Timing
) -> Lease:
    """Wait until the run is free, and claim it."""
    root = run / _FOLDER
    start = now = timing.clock()
    silence = 0.0  # seconds without a change, as far as this process was not paused itself
    last_seen: tuple[int, bytes | None] | None = None
    changed = False  # since the start, so that its owner is alive
    while True:
        before, now = now, timing.clock()
        silence += min(now - before, timing.beat)
        attempt = _newest(root)
        content = _content(root / f"{attempt:08d}")
        if (attempt, content) != last_seen:
            changed, last_seen, silence = last_seen is not None, (attempt, content), 0.0
        owner = parsed_owner(content)
        free = attempt == 0 or (owner is not None and not owner.held)
        # A stopped process keeps its lock, but its heartbeats end.
        expired = not free and silence >= timing.expiry
        locked = try_lock()
        if expired or (locked and (free or (owner is not None and has_ended(owner)))):
            if stage := _claim(root, attempt + 1):
                return Lease(run, stage)
            continue
        if timing.clock() - start > timeout and (changed or free):
            holder = f" (process {owner.process} on {owner.host})" if owner and owner.held else ""
            remedy = "wait for it, stop it, or choose another folder"
            raise BusyError(f"another process is {activity} in '{run}'{holder}", remedy)
        timing.sleep(timing.poll)


def _claim(root: Path, attempt: int) -> Path | None:
    """Claim the run as a new attempt, and exclude all earlier ones.

    Returns:
        The folder for temporary files; None if another process was faster.
    """
    folder = root / f"{attempt:08d}"
    stage = folder / secrets.token_hex(4)
    root.mkdir(exist_ok=True)  # an owner that ended may have removed it
    try:
        folder.mkdir()
    except (FileExistsError, FileNotFoundError):
        return None
    if _newest(root) != attempt:
        # This process was paused. Meanwhile the folder that it waited for was made and removed.
        _remove(folder)
        return None
    try:
        stage.mkdir()
        _write(stage, this_process())
    except FileNotFoundError:
        return None  # this process was paused, and another one removed the folder
    except OSError as error:  # such as a full disk; without an owner, the next process would wait for one
        _remove(folder)
        raise OSError(error.errno, error.strerror, str(folder)) from error
    for earlier in _attempts(root):
        if earlier < attempt:
            _remove(root / f"{earlier:08d}")
    return stage if _newest(root) == attempt else None


def _remove(folder: Path) -> None:
    """Remove the folder of an attempt, while its owner may be adding files."""
    for _ in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    raise FlatvqError(f"cannot remove '{folder}'", "stop the process that writes into it")


def _remove_file(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _keep_beating(lease: Lease, ended: threading.Event, seconds: float) -> None:
    owner = this_process()
    while not ended.wait(seconds):
        owner = replace(owner, beat=owner.beat + 1)
        with suppress(OSError):  # a full disk; the next heartbeat may succeed
            _write(lease.stage, owner)
        try:
            lease.confirm()
        except LeaseLostError:
            lease.on_loss()
            return
        except OSError:
            continue


def _remove_attempt(lease: Lease) -> None:
    """Remove the folder of an attempt, and, if there is no other attempt, the folder of all attempts."""
    if lease.stage.is_dir():
        _remove(lease.folder)
    lease.folder.parent.rmdir()


def _write(stage: Path, owner: Owner) -> None:
    temporary = stage / f".{_OWNER}.{threading.get_native_id()}"
    temporary.write_text(json.dumps(asdict(owner)), encoding="utf-8")
    temporary.replace(stage.parent / _OWNER)


def _attempts(root: Path) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(path.name) for path in root.iterdir() if path.name.isdecimal()]
    return []


def _newest(root: Path) -> int:
    return max(_attempts(root), default=0)


def _content(folder: Path) -> bytes | None:
    with suppress(OSError):
        return (folder / _OWNER).read_bytes()
    return None
