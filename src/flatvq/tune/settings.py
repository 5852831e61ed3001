"""The settings of a search: the incumbent, the hyper-parameters that may change, and the length of trials."""

from __future__ import annotations

from dataclasses import dataclass

from flatvq.recipe import ParameterRange, TrialRecipe, TuneRecipe

__all__ = ["WARM_UP", "SearchSettings", "warm_up_steps"]

# Number of validations of a trial.
_VALIDATIONS = 10

WARM_UP = 0.3
"""The share of a trial's steps before which it is not pruned."""


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search."""

    name: str
    """The name of the search in its storage. Searches with the same name share their trials."""
    incumbent: TrialRecipe
    """The arm to improve, matched, with its full number of steps."""
    tune: TuneRecipe
    """The number and length of trials, the seed, and the share of images that are set aside."""
    space: dict[str, ParameterRange]
    """The hyper-parameters that may change, and their ranges."""

    @property
    def base(self) -> TrialRecipe:
        """The incumbent as trials train it: with fewer steps, validated on images that are set aside."""
        full = self.incumbent
        steps = max(1, round(self.tune.length * full.train.steps))
        train = {"steps": steps, "validate_every": max(1, steps // _VALIDATIONS)}
        return full.model_copy(
            update={
                "arm": "tune",
                "seed": self.tune.seed,
                "train": full.train.model_copy(update=train),
                "data": full.data.model_copy(update={"tuning_share": self.tune.set_aside}),
            }
        )


def warm_up_steps(base: TrialRecipe) -> int:
    """Return the step before which no trial is pruned for a PSNR below the median."""
    return round(WARM_UP * base.train.steps)
