"""The studies that compare one level with hierarchies, by the budget in which they are matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from findings.records import Pair, Record

__all__ = ["FACTORIALS", "Health", "Matching", "matchings"]

Health = Literal["naive", "healthy"]

FACTORIALS = {
    "imagenet-64-bits": "bits alone",
    "imagenet-64-parameters": "bits and parameters",
    "imagenet-64-multiply-adds": "bits and multiply-adds",
    "imagenet-64-all": "all three, as nearly as integers allow",
}
"""The budget of each factorial study (models by treatments), by the name of its record."""

_HEALTHY = {
    "headline": "all three, as nearly as integers allow",
    "imagenet-128": "all three, as nearly as integers allow, at 128 px",
    "tuned": "bits alone, each at its own tuned values",
}
"""The budget of each study of healthy models on fresh seeds, by the name of its record."""


@dataclass(frozen=True)
class Matching:
    """A study that compares one level with hierarchies."""

    description: str
    """The budget in which its arms are matched, and what else distinguishes the study."""
    record: Record
    """The study."""

    def pair(self, health: Health, hierarchy: str) -> Pair | None:
        """Compare one level with a hierarchy, both naive or both healthy; None if the study lacks an arm."""
        ending = {"naive": "-nothing", "healthy": "-both"}[health] if self.record.name in FACTORIALS else ""
        single, multiple = f"single{ending}", f"{hierarchy}{ending}"
        if (health == "naive" and not ending) or not {single, multiple} <= set(self.record.arms):
            return None
        return self.record.pair(single, multiple)


def matchings(records: Mapping[str, Record]) -> list[Matching]:
    """Return the available studies that compare one level with hierarchies."""
    descriptions = {name: budget for name, budget in FACTORIALS.items() if name in records}
    for name, budget in _HEALTHY.items():
        if name in records:
            descriptions[name] = f"{budget}; {len(records[name].seeds)} fresh seeds"
    return [Matching(description, records[name]) for name, description in descriptions.items()]
