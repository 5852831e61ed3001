"""This machine without a cluster: `flatvq study` starts its trials itself.

Imports take longer than the small trainings. So commands are forked from a process that has imported
everything, and their trials from them. That process also counts their writes, and kills at one of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.crashes import killer
from benchmarks.crashes.killer import Killer
from benchmarks.crashes.programs import IMPORTS, run_here

__all__ = ["LEASE_SECONDS", "Local", "has_ended", "missing"]

LEASE_SECONDS = 4.0
"""Without a heartbeat, after which the owner of a run counts as ended: 60 elsewhere."""


def missing() -> str | None:
    """Return what this machine does not have; None if it has all."""
    return killer.missing() or (None if os.geteuid() == 0 else "root, as it mounts a disk")


class Local:
    """This machine.

    Args:
        folder: a folder for the library that counts writes.

    Raises:
        RuntimeError: if this process has started other processes from a forkserver. That server has not
            loaded the library.
    """

    engine = version = "local"

    def __init__(self, folder: Path) -> None:
        if getattr(forkserver._forkserver, "_forkserver_pid", None) is not None:
            raise RuntimeError("this process has a forkserver; start another process for the faults")
        self.killer = Killer(folder)
        before = dict(os.environ)
        os.environ.update(self.killer.environment, OMP_NUM_THREADS="1")
        get_context("forkserver").set_forkserver_preload([*IMPORTS, "benchmarks.faults.short_lease"])
        forkserver.ensure_running()
        os.environ.clear()
        os.environ.update(before)

    def start(self, arguments: Sequence[str], folder: Path) -> Forked:
        """Fork a command. See `Site.start`."""
        process = get_context("forkserver").Process(target=_run, args=(list(arguments), str(folder)))
        process.start()
        return Forked(process)

    def send(self, process: int, number: int) -> None:
        """Send a signal. See `Site.send`."""
        os.kill(process, number)

    def runs(self, process: int) -> bool:
        """Return whether a process runs. See `Site.runs`."""
        return not has_ended(process)

    def tend(self) -> None:
        """Nothing waits here."""

    def stop(self) -> None:
        """Nothing is left: trials end with their command."""


class Forked:
    """A command of this machine: a `Command`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code. See `Command.poll`."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for the end. See `Command.wait`."""
        self._process.join()
        return self._process.exitcode or 0

    def send_signal(self, sig: int, /) -> None:
        """Send a signal. See `Command.send_signal`."""
        os.kill(self.pid, sig)


def has_ended(process: int) -> bool:
    """Return whether a process has ended. Its parent may not have read its exit code yet."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return True


def _run(arguments: list[str], folder: str) -> None:
    from flatvq import processes

    # The trials are forked from the command, not from another process that imports everything again.
    processes._context = lambda: get_context("fork")
    # They begin without the handlers of the command, as they do otherwise.
    os.register_at_fork(after_in_child=_reset_signals)
    os.setsid()
    run_here(arguments, folder)


def _reset_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
