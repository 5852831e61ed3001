"""Disturbing a command at one of its writes, running it again, and comparing with an undisturbed run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crashes.folders import damaged_files, results
from benchmarks.crashes.killer import Accident, Killer, Write
from benchmarks.crashes.programs import OUTPUT, Program
from benchmarks.crashes.scenarios import Scenario, write_images

__all__ = ["Instant", "Matrix", "Undisturbed"]

_OWNER = re.compile(r"(.*/)?\.lease/\d+/\w+/\.owner\.json\.\d+")
_CHECKPOINT = re.compile(r"(.*)/step-\d+")


@dataclass(frozen=True)
class Instant:
    """An accident, and what was wrong after it or after the command was run again."""

    scenario: str
    accident: Accident
    number: int
    """Of the call that it came at."""
    write: Write | None
    """That call; None if the command ended before it."""
    times: int
    """How often it came, in all runs of the command."""
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Undisturbed:
    """A command that ran to its end."""

    scenario: Scenario
    start: Path
    """A copy of the folder as the command found it."""
    writes: tuple[Write, ...]
    results: dict[str, Any]


class Matrix:
    """Runs the commands of scenarios, undisturbed and disturbed.

    Args:
        root: a folder; made here.
        killer: what disturbs them.
        program: what runs them.
    """

    def __init__(self, root: Path, killer: Killer, program: Program) -> None:
        self.root, self.killer, self.program = root, killer, program
        root.mkdir()
        self.images = root / "images"
        write_images(self.images)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """Run a command to its end, and count its writes.

        Raises:
            RuntimeError: if it fails.
        """
        start, folder = self.root / f"{scenario.name}-start", self.root / scenario.name
        self.killer.disarm()
        scenario.prepare(start, self.images, self.program)
        shutil.copytree(start, folder)
        self.killer.arm(folder / "out")
        if self.program(scenario.arguments, folder):
            raise RuntimeError((folder / OUTPUT).read_text())
        writes = tuple(self.killer.writes())
        return Undisturbed(scenario, start, writes, results(folder / "out", times=scenario.times))

    def disturb(self, run: Undisturbed, accident: Accident, number: int, again: int = 0) -> Instant:
        """Run a command with an accident, run it again to its end, and compare.

        Args:
            run: the command, undisturbed.
            accident: what happens.
            number: of the call that it comes at.
            again: of the call of a second run that it comes at, too; 0 for one accident alone.
        """
        folder = self.root / "disturbed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run.start, folder)
        faults: list[str] = []
        hit: list[Write | None] = []
        for at in (number, again) if again else (number,):
            self.killer.arm(folder / "out", at, accident)
            code = self.program(run.scenario.arguments, folder)
            writes = self.killer.writes()
            hit.append(next((write for write in writes if write.number == at), None))
            faults += _damages(folder, writes, at)
            if accident == "disk full" and any(_must_succeed(write) for write in writes if write.number > at):
                faults += _complaint(code, (folder / OUTPUT).read_text(encoding="utf-8"))
        self.killer.arm(folder / "out")
        code = self.program(run.scenario.arguments, folder)
        faults += _ending(code, (folder / OUTPUT).read_text(encoding="utf-8"))
        faults += _damages(folder, self.killer.writes(), 0)
        faults += _differences(run.results, results(folder / "out", times=run.scenario.times))
        times = sum(write is not None for write in hit)
        return Instant(run.scenario.name, accident, number, hit[0], times, tuple(faults))


def _must_succeed(write: Write) -> bool:
    """Return whether a command fails if a call does. A lease that is not renewed or released only expires."""
    return write.call == "write" and not _OWNER.fullmatch(write.path)


def _complaint(code: int, output: str) -> list[str]:
    """Say what was wrong with the end of a command that could not write."""
    if code > 0 and "Traceback" not in output and "no space left on device" in output.lower():
        return []
    return [f"exit code {code} on a full disk: {output[-1000:]}"]


def _ending(code: int, output: str) -> list[str]:
    """Say what was wrong with the end of a command that should have succeeded."""
    if code == 0 and not any(word in output for word in ("Traceback", "Warning")):
        return []
    return [f"exit code {code}: {output[-400:]}"]


def _damages(folder: Path, writes: Sequence[Write], at: int) -> list[str]:
    """Name files that are damaged, and newest checkpoints that are gone."""
    out = folder / "out"
    newest: dict[str, str] = {}
    for write in writes:
        # The rename that a process was killed at was not made.
        if write.call == "rename" and write.number != at and (match := _CHECKPOINT.fullmatch(write.path)):
            newest[match[1]] = write.path
    return [
        *(f"{path} is damaged: {error}" for path, error in damaged_files(out).items()),
        *(f"{path} is gone" for path in newest.values() if not (out / path).is_dir()),
    ]


def _differences(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Name the files that are missing, left over or different."""
    return [
        *(f"{path} is missing" for path in expected.keys() - got.keys()),
        *(f"{path} is left over" for path in got.keys() - expected.keys()),
        *(f"{path} differs" for path in expected.keys() & got.keys() if expected[path] != got[path]),
    ]
