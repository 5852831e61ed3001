"""A small study, undisturbed on this machine, or disturbed somewhere."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from benchmarks.crashes.folders import results
from benchmarks.crashes.scenarios import write_images
from benchmarks.faults.checks import attempts_of_done, differences, repeated, step_of, steps_lost
from benchmarks.faults.sites import OUTPUT, Command, Site
from flatvq.train.lease import newest_owner

__all__ = ["Disturbance", "Fault", "MissedError", "SmallStudy"]

S = TypeVar("S", bound=Site)

_EVERY = 5
_RECIPE: dict[str, Any] = {
    "data": {"source": "folder", "crop": 16, "validation_share": 0.25},
    "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 8, "code_dim": 2}]},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
    "train": {
        "batch_size": 2,
        "validate_every": 50,
        "checkpoint_every": _EVERY,
        "record_every": _EVERY,
        "precision": "float32",
        "compile": "never",
    },
    "evaluate": {"samples": 1},
    "arms": {"plain": {}, "other": {"codebook": {"replacement": {"every": 3}}}},
    "workers": 2,
}
_CLUSTER: dict[str, Any] = {"gpus_per_trial": 1, "cpus": 1, "poll_seconds": 0.5, "attempts": 5}
# With which a disturbed command may end. 1: a trial failed. SIGTERM: before there was a trial.
_CODES = frozenset([0, 1, 2, 74, 75, 130, -signal.SIGKILL, -signal.SIGTERM])
_AGAIN = 2
_MISSES = 30
_DEADLINE = 900.0


class MissedError(Exception):
    """The study ended before the fault."""


@dataclass(frozen=True)
class Fault(Generic[S]):
    """What happens to a study."""

    act: Callable[[SmallStudy[S], random.Random], None]
    """Raises MissedError if it comes too late."""
    after: Literal["start", "first write", "first checkpoint"] = "first checkpoint"
    within: float = 1.5
    """It comes at most so many seconds after that."""


@dataclass(frozen=True)
class Disturbance:
    """What happened to a study, and what was wrong in the end."""

    fault: str
    step: int
    """The newest step of any trial at that time."""
    attempts: int
    """Of all trials together."""
    commands: int
    """How often the command was started."""
    seconds: float
    faults: tuple[str, ...]


class SmallStudy(Generic[S]):
    """A study of two arms and some seeds, run by `flatvq study`.

    Args:
        root: a folder; created if it does not exist.
        site: where it runs.
        steps: training steps of a trial.
        seeds: the number of seeds.
        nodes: the number of nodes of a trial, each with a process.
        folder: the folder of the disturbed study.
    """

    def __init__(
        self,
        root: Path,
        site: S,
        steps: int = 300,
        seeds: int = 2,
        nodes: int = 1,
        folder: Path | None = None,
    ) -> None:
        self.root, self.site, self.steps, self.nodes = root, site, steps, nodes
        root.mkdir(exist_ok=True)
        images = root / "images"
        if not images.exists():
            write_images(images)
        tree = {**_RECIPE, "seeds": list(range(seeds)), "cluster": {**_CLUSTER, "nodes": nodes}}
        tree |= {
            "train": {**_RECIPE["train"], "steps": steps},
            "data": {**_RECIPE["data"], "path": str(images)},
        }
        self.recipe = root / "small.yaml"
        self.recipe.write_text(json.dumps(tree), encoding="utf-8")
        self.folder = folder or root / "disturbed"
        self.command: Command | None = None
        """The newest one."""
        self.commands = 0
        self._seen: set[int] = set()  # processes of trials
        self._done: dict[Path, int] = {}

    def undisturbed(self) -> Mapping[str, Any]:
        """Run the study on this machine, or on its site if its trials have several processes.

        Returns:
            Its results without times.
        """
        folder = self.root / "undisturbed"
        if self.nodes > 1:
            self.folder, disturbed = folder, self.folder
            self.start()
            self.end()
            self.folder = disturbed
        else:
            command = [sys.executable, "-m", "flatvq", "study", str(self.recipe), "--out", str(folder)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, env=environment, check=True, capture_output=True)
        return results(folder, times=False)

    def start(self) -> Command:
        """Start the command."""
        self._done |= attempts_of_done(self.runs())
        command = ["study", str(self.recipe), "--out", str(self.folder)]
        on = [] if self.site.engine == "local" else ["--on", self.site.engine]
        self.command = self.site.start([*command, *on], self.root)
        self.commands += 1
        return self.command

    def end(self) -> int:
        """Wait for the end of the command, and return its exit code.

        Raises:
            TimeoutError: if it does not end.
        """
        assert self.command is not None
        deadline = time.monotonic() + _DEADLINE
        while (code := self.command.poll()) is None:
            self.site.tend()
            self.running()
            if time.monotonic() > deadline:
                self.command.send_signal(signal.SIGKILL)
                self.command.wait()
                raise TimeoutError
            time.sleep(0.1)
        return code

    def stop(self) -> None:
        """End the command, and the trials of this machine with it."""
        if self.command is not None and self.command.poll() is None:
            self.command.send_signal(signal.SIGKILL)
            self.command.wait()

    def runs(self) -> list[Path]:
        """Return the folders of the trials."""
        return sorted(self.folder.glob("runs/*/seed-*"))

    def running(self) -> dict[Path, int]:
        """Return the trials that have written a checkpoint and are not done, with their processes."""
        owners = {run: newest_owner(run)[1] for run in self.runs()}
        held = {run: owner.process for run, owner in owners.items() if owner is not None and owner.held}
        self._seen |= set(held.values())
        return {
            run: process
            for run, process in held.items()
            if 0 < step_of(run) < self.steps and self.site.runs(process)
        }

    def one_running(self, randomness: random.Random) -> tuple[Path, int]:
        """Return a running trial and its process.

        Raises:
            MissedError: if none runs before the command ends.
        """
        self.wait_for(lambda: bool(self.running()))
        if not (running := self.running()):
            raise MissedError
        return randomness.choice(sorted(running.items()))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition or the end of the command."""
        assert self.command is not None
        while not condition() and self.command.poll() is None:
            self.site.tend()
            time.sleep(0.02)

    def disturb(
        self, name: str, fault: Fault[S], undisturbed: Mapping[str, Any], randomness: random.Random
    ) -> Disturbance:
        """Run the study with a fault, to its end, and compare with an undisturbed one.

        Raises:
            RuntimeError: if the fault comes too late each time.
        """
        within = fault.within
        for _ in range(_MISSES):
            shutil.rmtree(self.folder, ignore_errors=True)
            self._seen, self._done, self.commands = set(), {}, 0
            start = time.monotonic()
            try:
                step = self._hit(fault, within, randomness)
                break
            except (MissedError, ProcessLookupError):
                self.end()
                within /= 2
        else:
            raise RuntimeError(f"{name}: the study ended before the fault, {_MISSES} times")
        faults = self._finish()
        faults += differences(undisturbed, self.folder)
        faults += repeated(self._done)
        faults += [fault for run in self.runs() for fault in steps_lost(run, _EVERY)]
        attempts = sum(newest_owner(run)[0] for run in self.runs())
        seconds = round(time.monotonic() - start, 1)
        return Disturbance(name, step, attempts, self.commands, seconds, tuple(faults))

    def _hit(self, fault: Fault[S], within: float, randomness: random.Random) -> int:
        """Start the study and let the fault come; return the newest step before."""
        if fault.after == "start":
            fault.act(self, randomness)
            return max(map(step_of, self.runs()), default=0)
        self.start()
        if fault.after == "first write":
            self.wait_for(self.folder.exists)
        else:
            self.wait_for(lambda: bool(self.running()))
        wait = time.monotonic() + randomness.uniform(0, within)
        self.wait_for(lambda: time.monotonic() > wait)
        step = max(map(step_of, self.runs()), default=0)
        self._done |= attempts_of_done(self.runs())
        fault.act(self, randomness)
        return step

    def _finish(self) -> list[str]:
        """Run the command until it ends well, and wait for all trials; return what was wrong."""
        wrong: list[str] = []
        try:
            for _ in range(_AGAIN):
                code = self.end()
                wrong += _complaints(code, self.root / OUTPUT)
                if code == 0:
                    break
                self.start()
            else:
                if code := self.end():
                    wrong.append(f"exit code {code} in the end: {_tail(self.root / OUTPUT)}")
            deadline = time.monotonic() + _DEADLINE
            while any(map(self.site.runs, self._seen)):
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.05)
        except TimeoutError:
            wrong.append("not done in time")
        logs = [(run / "log.txt") for run in self.runs() if self.nodes == 1]
        return wrong + [f"{log}: {_tail(log)}" for log in logs if _has_traceback(log)]


def _complaints(code: int, output: Path) -> list[str]:
    if code in _CODES and not _has_traceback(output):
        return []
    return [f"exit code {code}: {_tail(output)}"]


def _has_traceback(path: Path) -> bool:
    """Return whether an error ended a program; Python prints errors in destructors and continues."""
    text = path.read_bytes() if path.exists() else b""
    return b"Traceback" in text and b"Exception ignored" not in text


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-1500:]
