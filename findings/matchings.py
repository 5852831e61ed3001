"""One comparison under every budget: does the answer hang on what is called equal?"""

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
"""What each study of models by interventions is matched in, by the name of its record."""

_HEALTHY = {
    "headline": "all three, as nearly as integers allow",
    "imagenet-128": "all three, as nearly as integers allow, at 128 px",
    "tuned": "bits alone, each at its own tuned values",
}
"""The same of the studies that have healthy models only, on seeds that no other study used."""


@dataclass(frozen=True)
class Matching:
    """A study in which one level meets hierarchies."""

    words: str
    """What its arms are matched in, and whatever else sets it apart."""
    record: Record
    """The study."""

    def pair(self, health: Health, hierarchy: str) -> Pair | None:
        """Compare one level with a hierarchy, both naive or both healthy; None if one is not there."""
        ending = {"naive": "-nothing", "healthy": "-both"}[health] if self.record.name in FACTORIALS else ""
        one, two = f"single{ending}", f"{hierarchy}{ending}"
        if (health == "naive" and not ending) or not {one, two} <= set(self.record.arms):
            return None
        return self.record.pair(one, two)


def matchings(records: Mapping[str, Record]) -> list[Matching]:
    """Find the studies that compare one level with hierarchies at one budget."""
    found = {name: words for name, words in FACTORIALS.items() if name in records}
    for name, words in _HEALTHY.items():
        if name in records:
            found[name] = f"{words}; {len(records[name].seeds)} fresh seeds"
    return [Matching(words, records[name]) for name, words in found.items()]
