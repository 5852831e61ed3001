"""What a study runs on, and a command that runs there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["OUTPUT", "Command", "Site"]

OUTPUT = "output.txt"


class Command(Protocol):
    """A `flatvq` command that runs. `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None if it runs."""

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal."""


class Site(Protocol):
    """This machine, or a cluster on it."""

    engine: str
    """As `--on` takes it."""
    version: str
    """Of its scheduler."""

    def start(self, arguments: Sequence[str], folder: Path) -> Command:
        """Start `flatvq` with some arguments. What it prints goes to output.txt in the folder."""

    def send(self, process: int, number: int) -> None:
        """Send a signal to a process, by the ID that it has on this site.

        Raises:
            ProcessLookupError: if it has ended.
        """

    def runs(self, process: int) -> bool:
        """Return whether a process runs."""

    def tend(self) -> None:
        """Shorten what a cluster waits for. It is called about twice a second."""

    def stop(self) -> None:
        """End everything."""
