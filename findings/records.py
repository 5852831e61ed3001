"""Read the committed studies, and compare pairs of arms over their seeds.

All comparisons are computed from the trials with flatvq's own rule, so that any pair of arms can be compared,
not only those of the study.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from flatvq.records import to_format_3
from flatvq.study.statistics import Difference, compare

__all__ = ["Pair", "Record", "read", "shared_trainings", "with_interval"]

Trial = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A comparison of two arms of a study, or of two decoders."""

    record: str
    """Folder of the record in results/."""
    file: str
    """File in the folder; empty for all files."""
    a: str
    """Name of the first arm or decoder."""
    b: str
    """Name of the second."""
    difference: Difference
    """PSNR of a minus b, in dB."""

    @property
    def text(self) -> str:
        """The difference with its interval, in words."""
        return with_interval(self.difference.mean, self.difference.interval90)


def with_interval(difference: float, interval: Sequence[float] | None) -> str:
    """Write a difference of PSNR in dB.

    Example:
        >>> with_interval(-0.25, (-0.5, 0.0))
        '−0.25 [−0.50, +0.00] dB'
    """
    spread = f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else ""
    return f"{difference:+.2f}{spread} dB".replace("-", "−")


@dataclass(frozen=True)
class Record:
    """A committed study.

    Attributes:
        name: name of its folder in results/.
        study: the content of study.json.
    """

    name: str
    study: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in order."""
        return [arm["name"] for arm in self.study["arms"]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that any arm finished."""
        return sorted({trial["seed"] for trial in self.study["trials"] if trial["status"] == "done"})

    def arm(self, name: str) -> dict[str, Any]:
        """Return the entry of an arm in study.json."""
        arm: dict[str, Any] = next(arm for arm in self.study["arms"] if arm["name"] == name)
        return arm

    def trials(self, arm: str) -> list[Trial]:
        """Return the finished trials of an arm, sorted by seed."""
        done = [t for t in self.study["trials"] if t["arm"] == arm and t["status"] == "done"]
        return sorted(done, key=lambda trial: int(trial["seed"]))

    def values(self, arm: str, measure: Callable[[Trial], float]) -> list[float]:
        """Return a measure of each finished trial of an arm, sorted by seed."""
        return [measure(trial) for trial in self.trials(arm)]

    def mean(self, arm: str, measure: Callable[[Trial], float]) -> float:
        """Return the mean of a measure over the seeds of an arm."""
        return fmean(self.values(arm, measure))

    def pair(self, a: str, b: str, *, without_collapsed: bool = False) -> Pair:
        """Compare two arms over the seeds that both finished.

        Args:
            a: name of an arm.
            b: name of the arm whose PSNR is subtracted.
            without_collapsed: leave out the seeds in which a level of either arm collapsed.
        """
        psnr_a, psnr_b = ({t["seed"]: t["psnr_db"] for t in self.trials(arm)} for arm in (a, b))
        seeds = sorted(psnr_a.keys() & psnr_b.keys())
        if without_collapsed:
            seeds = [seed for seed in seeds if seed not in self._collapsed(a) | self._collapsed(b)]
        sides = [psnr_a[seed] for seed in seeds], [psnr_b[seed] for seed in seeds]
        return Pair(self.name, "study.json", a, b, compare(*sides, margin=self.study["margin_db"]))

    def _collapsed(self, arm: str) -> set[int]:
        return {t["seed"] for t in self.trials(arm) if any(level["collapse"] for level in t["levels"])}


def shared_trainings(a: Record, b: Record) -> list[float]:
    """Return the differences of PSNR in dB, without sign, of the trainings that two records have in common.

    Trainings are the same if their folders have the same name: it holds the seed and a hash of the recipe.
    """
    psnr = [{t["run"]: t["psnr_db"] for t in record.study["trials"]} for record in (a, b)]
    return [abs(psnr[0][run] - psnr[1][run]) for run in sorted(psnr[0].keys() & psnr[1].keys())]


def read(folder: Path, names: Sequence[str]) -> dict[str, Record]:
    """Read the studies of these names that exist in a folder."""
    paths = {name: folder / name / "study.json" for name in names}
    return {name: Record(name, _study(path)) for name, path in paths.items() if path.is_file()}


def _study(path: Path) -> dict[str, Any]:
    study: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return to_format_3(study) if study["format"] == 2 else study
