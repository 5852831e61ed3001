"""Read the committed studies. All differences and intervals come from their `study.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

__all__ = ["Record", "Trial", "with_interval"]

Trial = dict[str, Any]


def with_interval(value: float, interval: Sequence[float] | None, unit: str = " dB", digits: int = 2) -> str:
    """Write a difference with its interval.

    Example:
        >>> with_interval(-0.25, (-0.5, 0.0))
        '−0.25 [−0.50, +0.00] dB'
    """
    spread = f" [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]" if interval else ""
    return f"{value:+.{digits}f}{spread}{unit}".replace("-", "−")


@dataclass(frozen=True)
class Record:
    """A committed study."""

    name: str
    """Name of its folder in results/."""
    study: dict[str, Any]
    """The content of study.json."""
    recipes: dict[str, Any]
    """The resolved recipe of each arm."""

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record in a folder."""
        study, recipes = (json.loads((folder / name).read_text(encoding="utf-8")) for name in _FILES)
        return cls(folder.name, study, recipes)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in order."""
        return [arm["name"] for arm in self.study["arms"]]

    @property
    def size(self) -> int:
        """The side of a crop, in pixels."""
        (size,) = {recipe["data"]["crop"] for recipe in self.recipes.values()}
        return int(size)

    def setting(self, section: str, key: str) -> Any:
        """Return a key of the recipe that all arms share."""
        (value,) = {recipe[section][key] for recipe in self.recipes.values()}
        return value

    @property
    def seeds(self) -> int:
        """The number of seeds of the last look."""
        return int(self.study["looks"][-1]["seeds"])

    @property
    def level(self) -> float:
        """The one-sided level of the intervals, which accounts for all looks."""
        return float(self.study["design"]["level"])

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

    def comparison(self, *arms: str) -> dict[str, Any]:
        """Return a comparison of the study.

        Args:
            *arms: a and b for a minus b; a, b, c and d for (a minus b) minus (c minus d).
        """
        key = (*arms, None, None)[:4]
        comparison: dict[str, Any] = next(
            one for one in self.study["comparisons"] if tuple(one[part] for part in "abcd") == key
        )
        return comparison

    def training_compute(self, arm: str) -> float:
        """Return the multiply-adds of a training of an arm, searches included.

        The backward pass counts as two forward passes.
        """
        train = self.recipes[arm]["train"]
        return float(3 * self.arm(arm)["multiply_adds"] * train["batch_size"] * train["steps"])


_FILES = ("study.json", "recipes.json")
