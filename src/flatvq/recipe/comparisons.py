"""What a study compares, and after how many seeds it is judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flatvq.metrics import PRIMARY, TRIAL_METRICS
from flatvq.recipe.section import NameIn, Section, Seeds

__all__ = ["MOST_TRIALS", "Bits", "Comparisons", "CurvesRecipe"]

MOST_TRIALS = 10_000
"""Largest number of trials of a study."""
_LOOKS = (8, 16, 32, 64, 128)

LookSize = Annotated[int, Field(ge=1, le=MOST_TRIALS)]


Bits = Literal["nominal", "effective", "coded"]
"""How the bits of an arm are counted: from its recipe, from the entropy of its indices, or after entropy
coding."""


class CurvesRecipe(Section):
    """Two curves: arms with several budgets of bits, compared at equal bits and at an equal metric."""

    a: Annotated[tuple[str, ...], Field(min_length=2)]
    """The arms of the first curve, one for each budget."""
    b: Annotated[tuple[str, ...], Field(min_length=2)]
    """The arms of the second curve."""
    bits: Bits = "effective"
    """The bits on the axis. `nominal`: log2 K for each index. `effective`: the entropy of the indices of the
    held-out images. `coded`: the size of their entropy-coded streams; needs `evaluate.prior_images`."""


class Comparisons(Section):
    """The keys of a study that decide its verdict."""

    looks: tuple[LookSize, ...] = ()
    """Numbers of seeds after which the study is judged, in increasing order. `flatvq study` trains up to the
    next look, and stops for good at the first look that settles the primary comparison. Empty: 8, 16, 32, 64
    and 128 seeds, or all `seeds` at once if they are given."""
    seeds: Seeds = ()
    """The seeds, in the order in which they are trained. Each arm is trained once with each seed. Empty: 0,
    1, 2, ... up to the last look. If there are fewer seeds than the last look has, the last look is at all
    seeds."""
    metric: Annotated[str, NameIn(TRIAL_METRICS)] = PRIMARY
    """The metric that is compared, one number per trial."""
    margin: float = Field(0.1, gt=0, le=1e9)
    """The largest difference of the metric that does not matter, in its unit. Two arms are equivalent if the
    interval of their difference lies within plus or minus the margin. The default is 0.1 dB; a metric that
    is not in dB needs a margin of its own."""
    interval: Literal["welch", "paired"] = "welch"
    """`welch`: intervals from the spread of seeds within each arm (Welch's t). `paired`: intervals from the
    differences of equal seeds; narrower only if equal seeds of two arms correlate."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs [a, b] of arms to compare. Empty: every pair of arms that differs only in the model or only in
    the codebook."""
    primary: tuple[str, ...] = ()
    """The pair [a, b] that the study is about. It decides when the study stops. Empty: the first comparison
    of two healthy arms with different models, or else the first comparison. All others are secondary."""
    interactions: tuple[tuple[str, str, str, str], ...] = ()
    """Lists of four arms [a, b, c, d]: (a - b) - (c - d) is compared with zero. Empty: for each pair of
    models, the gain of the first from the measures against codebook collapse minus the gain of the second.
    The four arms must differ."""

    curves: tuple[CurvesRecipe, ...] = ()
    """Pairs of rate curves to compare. A curve has arms of one architecture with several budgets of bits.
    The study states the difference of the metric at equal bits, and the extra bits at an equal metric."""

    @model_validator(mode="after")
    def _looks_and_seeds_agree(self) -> Self:
        if list(self.looks) != sorted(set(self.looks)):
            raise ValueError(f"looks must increase, not {list(self.looks)}")
        looks = self.looks or (() if self.seeds else _LOOKS)
        seeds = self.seeds or tuple(range(looks[-1]))
        self._set(seeds=seeds, looks=(*(look for look in looks if look < len(seeds)), len(seeds)))
        return self

    @model_validator(mode="after")
    def _metric_has_a_better_direction(self) -> Self:
        if TRIAL_METRICS[self.metric].higher_is_better is None:
            raise ValueError(
                f"metric {self.metric!r} has no better direction, so arms cannot be compared by it"
            )
        return self

    @model_validator(mode="after")
    def _metric_and_margin_have_the_same_unit(self) -> Self:
        if TRIAL_METRICS[self.metric].unit != "dB" and "margin" not in self.model_fields_set:
            raise ValueError(
                f"metric {self.metric!r} is not in dB, so the default margin of 0.1 dB does not apply: "
                "give a margin in the unit of the metric"
            )
        return self

    def _set(self, **values: Any) -> None:
        """Set a value that follows from other keys. All other code sees a frozen recipe."""
        for key, value in values.items():
            object.__setattr__(self, key, value)
