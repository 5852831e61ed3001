"""An engine whose cluster is this machine, for tests without a cluster: each unit is a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flatvq.engines.attempts import AGAIN
from flatvq.engines.engine import State, Unit

__all__ = ["Machine"]

_LIMIT = "3"


class Machine:
    """Starts all units of a submission at once when it is first asked for their states.

    Args:
        largest: the largest number of units of one submission.
        kills: how many of the first attempts end by SIGKILL before they run the command.
    """

    def __init__(self, largest: int = 2, kills: int = 0) -> None:
        self.largest, self.kills = largest, kills
        self.units: dict[str, list[Unit]] = {}
        self.attempts = 0
        """Of all units together."""
        self._processes: dict[str, dict[int, subprocess.Popen[bytes]]] = {}

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        """Keep the units. See `Engine.submit`."""
        self.units[name] = list(units)

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        """Start units that have not started or are to be tried again. See `Engine.states`."""
        return {name: self._states(name) for name in names}

    def limit(self, name: str, running: int) -> None:
        """All units run at a time. See `Engine.limit`."""

    def cancel(self, names: Sequence[str]) -> None:
        """End units by SIGTERM, and wait for them. See `Engine.cancel`."""
        for name in names:
            self.units.pop(name, None)
            for process in self._processes.pop(name, {}).values():
                process.terminate()
                process.wait()

    def _states(self, name: str) -> dict[int, State]:
        states: dict[int, State] = {}
        processes = self._processes.setdefault(name, {})
        for index, unit in enumerate(self.units.get(name, [])):
            code = processes[index].poll() if index in processes else AGAIN
            if code == AGAIN:
                processes[index] = self._start(unit)
            states[index] = "running" if code in (None, AGAIN) else "ended"
        return states

    def _start(self, unit: Unit) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *unit.module]
        if self.attempts < self.kills:
            command = ["bash", "-c", "kill -9 $$"]
        self.attempts += 1
        supervisor = [sys.executable, "-m", "flatvq.engines.attempts", _LIMIT, str(unit.folder)]
        return subprocess.Popen([*supervisor, *command])
