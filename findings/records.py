"""The committed studies, as the page needs them: an arm's seeds, and pairs of arms compared over them.

Everything comes from a study's trials; the comparisons that the study itself made are made again, by the same
rule, so that any pair of arms can be asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from flatvq.study.statistics import Difference, compare

__all__ = ["Pair", "Record", "read", "twins", "with_interval"]

Trial = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two arms of a study, or two decoders: PSNR of a minus b in dB, seed by seed."""

    record: str
    """Name of the record's folder in results/."""
    file: str
    """The file in it, or an empty name for all of them."""
    a: str
    """The first arm, or what else is compared."""
    b: str
    """The second."""
    found: Difference
    """PSNR of a minus b, in dB."""

    @property
    def told(self) -> str:
        """The difference with its interval."""
        return with_interval(self.found.mean, self.found.interval90)


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
        name: of its folder in results/.
        study: what its study.json holds.
    """

    name: str
    study: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in their order."""
        return [arm["name"] for arm in self.study["arms"]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that any arm finished."""
        return sorted({trial["seed"] for trial in self.study["trials"] if trial["status"] == "done"})

    def arm(self, name: str) -> dict[str, Any]:
        """Return an arm's capacities."""
        found: dict[str, Any] = next(arm for arm in self.study["arms"] if arm["name"] == name)
        return found

    def trials(self, arm: str) -> list[Trial]:
        """Return an arm's finished trials, by seed."""
        done = [t for t in self.study["trials"] if t["arm"] == arm and t["status"] == "done"]
        return sorted(done, key=lambda trial: int(trial["seed"]))

    def values(self, arm: str, of: Callable[[Trial], float]) -> list[float]:
        """Return one number a seed."""
        return [of(trial) for trial in self.trials(arm)]

    def mean(self, arm: str, of: Callable[[Trial], float]) -> float:
        """Return the mean over seeds."""
        return fmean(self.values(arm, of))

    def pair(self, a: str, b: str, *, without_collapsed: bool = False) -> Pair:
        """Compare two arms over the seeds that both finished; or over those in which no level collapsed."""
        one, two = ({t["seed"]: t["psnr_db"] for t in self.trials(arm)} for arm in (a, b))
        seeds = sorted(one.keys() & two.keys())
        if without_collapsed:
            seeds = [seed for seed in seeds if seed not in self._collapsed(a) | self._collapsed(b)]
        sides = [one[seed] for seed in seeds], [two[seed] for seed in seeds]
        return Pair(self.name, "study.json", a, b, compare(*sides, margin=self.study["margin_db"]))

    def _collapsed(self, arm: str) -> set[int]:
        return {t["seed"] for t in self.trials(arm) if any(level["collapse"] for level in t["levels"])}


def twins(one: Record, two: Record) -> list[float]:
    """Return by how many dB trainings differ that two records share.

    Such have the same recipe, seed and version of the training: a run's folder ends with a hash of all three.
    """
    psnr = [{t["run"]: t["psnr_db"] for t in record.study["trials"]} for record in (one, two)]
    return [abs(psnr[0][run] - psnr[1][run]) for run in sorted(psnr[0].keys() & psnr[1].keys())]


def read(folder: Path, names: Sequence[str]) -> dict[str, Record]:
    """Read the studies of these names; those that are not there are left out."""
    paths = {name: folder / name / "study.json" for name in names}
    return {
        name: Record(name, json.loads(path.read_text(encoding="utf-8")))
        for name, path in paths.items()
        if path.is_file()
    }
