"""Killing a command at one of its writes, running it again, and comparing with an undisturbed run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crashes.folders import damaged_files, results
from benchmarks.crashes.killer import Killer, Victims, Write
from benchmarks.crashes.programs import OUTPUT, Program
from benchmarks.crashes.scenarios import Scenario, write_images

__all__ = ["Instant", "Matrix", "Undisturbed"]

_CHECKPOINT = re.compile(r"(.*)/step-\d+")


@dataclass(frozen=True)
class Instant:
    """A kill, and what was wrong after it or after the command was run again."""

    scenario: str
    number: int
    """Of the write that the command was killed at."""
    victims: Victims
    write: Write | None
    """That write; None if the command ended before it."""
    kills: int
    """How often the command was killed in all."""
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
    """Runs the commands of scenarios, undisturbed and killed.

    Args:
        place: a folder; made here.
        killer: what kills them.
        program: what runs them.
    """

    def __init__(self, place: Path, killer: Killer, program: Program) -> None:
        self.place, self.killer, self.program = place, killer, program
        place.mkdir()
        self.images = place / "images"
        write_images(self.images)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """Run a command to its end, and count its writes.

        Raises:
            RuntimeError: if it fails.
        """
        start, folder = self.place / f"{scenario.name}-start", self.place / scenario.name
        self.killer.disarm()
        scenario.prepare(start, self.images, self.program)
        shutil.copytree(start, folder)
        self.killer.arm(folder / "out")
        if self.program(scenario.arguments, folder):
            raise RuntimeError((folder / OUTPUT).read_text())
        writes = tuple(self.killer.writes())
        return Undisturbed(scenario, start, writes, results(folder / "out", times=scenario.times))

    def kill(self, run: Undisturbed, number: int, victims: Victims, again: int = 0) -> Instant:
        """Kill a command, run it again to its end, and compare.

        Args:
            run: the command, undisturbed.
            number: of the write to kill it at.
            victims: who is killed.
            again: of the write to kill it at when it is run again; 0: it is not killed again.
        """
        folder = self.place / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run.start, folder)
        faults: list[str] = []
        hit: list[Write] = []
        for at in (number, again) if again else (number,):
            self.killer.arm(folder / "out", at, victims)
            self.program(run.scenario.arguments, folder)
            writes = self.killer.writes()
            hit += [write for write in writes if write.number == at]
            faults += _damages(folder, writes, at)
        self.killer.arm(folder / "out")
        code = self.program(run.scenario.arguments, folder)
        faults += _ending(code, (folder / OUTPUT).read_text(encoding="utf-8"))
        faults += _damages(folder, self.killer.writes(), 0)
        faults += _differences(run.results, results(folder / "out", times=run.scenario.times))
        first = hit[0] if hit and hit[0].number == number else None
        return Instant(run.scenario.name, number, victims, first, len(hit), tuple(faults))


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
        # The rename to kill at was not made.
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
