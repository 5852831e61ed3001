"""The comparisons of a study, its looks, and the design that was fixed before them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flatvq.recipe.section import Seed
from flatvq.records.reading import Count, Number, Pair, Positive, Record, Several, Share

__all__ = ["Compared", "Comparison", "CurvePair", "Curves", "Design", "EarlierDesign", "Look"]


class Compared(Record):
    """The result of a comparison: the metric of arm `a` minus the metric of arm `b`.

    With four arms, it is the interaction (`a` - `b`) - (`c` - `d`).
    """

    a: str
    b: str
    c: str | None = None
    d: str | None = None
    difference: Number | None = None
    interval90: Pair[Number | None] | None = None
    verdict: str

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, two or four."""
        return tuple(filter(None, (self.a, self.b, self.c, self.d)))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 90 % confidence interval; None if there are too few seeds for one."""
        low, high = self.interval90 or (None, None)
        return None if low is None or high is None else (low, high)


class Comparison(Compared):
    """A comparison after the last look. `per_seed` holds the differences of seeds that all arms finished."""

    question: str
    primary: bool = False
    metric: str | None = None
    margin: Annotated[Number, Field(ge=0)]
    seeds: Count = 0
    per_seed: Several[Number] = ()
    degrees_of_freedom: Number | None = None
    p_equivalence: Share | None = None
    level: Share | None = None
    normality_p: Share | None = None


class CurvePair(Record):
    """Two rate curves: the arms of each, and how their bits are counted."""

    a: Several[str]
    b: Several[str]
    bits: str


class Curves(CurvePair):
    """The comparison of two rate curves after the last look. If it could not be made, `reason` says why."""

    metric: str
    difference: Number | None = None
    """The difference in the metric, first curve minus second, at equal bits."""
    interval90: Pair[Number] | None = None
    verdict: str | None = None
    """The verdict on `difference`, with the margin of the study."""
    extra_bits_percent: Number | None = None
    """How many more bits the first curve needs than the second at an equal metric, in per cent."""
    extra_bits_interval90: Pair[Number] | None = None
    shared_bits: Pair[Number] | None = None
    """The bits per pixel that both curves reach: `difference` is a mean over this range."""
    shared_metric: Pair[Number] | None = None
    """The values of the metric that both curves reach: `extra_bits_percent` is a mean over this range."""
    seeds: Count = 0
    """The number of seeds of the arm with the fewest."""
    reason: str | None = None


class Look(Record):
    """The comparisons after a look. A look is recorded once, when its trials have ended."""

    seeds: Positive
    created: str
    seconds: Number | None = None
    comparisons: Several[Compared]


class Design(Record):
    """The rule that was fixed before the first trial. Together with the trials it decides every verdict."""

    metric: str
    margin: Annotated[Number, Field(gt=0)]
    interval: str
    looks: Several[Positive]
    seeds: Several[Seed]
    level: Share
    """One-sided level of the interval at each look."""
    primary: Several[str] = ()
    comparisons: Several[Several[str]] = ()
    curves: Several[CurvePair] = ()
    arms: dict[str, str] = Field({})
    """The hash of each arm's resolved recipe without its seed."""


class EarlierDesign(Record):
    """An earlier design of a study in the same folder, with its looks."""

    design: Design
    looks: Several[Look] = ()
