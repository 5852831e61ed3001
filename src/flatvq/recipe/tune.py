"""The search of hyper-parameters: its settings and its space."""

from __future__ import annotations

from math import isfinite
from typing import Any, Self

from pydantic import Field, model_validator

from flatvq.recipe.reading import shown
from flatvq.recipe.renamed import RANGE_KEYS, current_keys
from flatvq.recipe.section import Section, Seeds

__all__ = ["ParameterRange", "TuneRecipe"]


class ParameterRange(Section):
    """The values that a search may give to one hyper-parameter: a list of choices, or a numeric range."""

    choices: tuple[Any, ...] = ()
    """The allowed values. Empty: numbers from `low` to `high`."""
    low: float = Field(0.0, ge=-1e15, le=1e15)
    """Smallest value of the range."""
    high: float = Field(0.0, ge=-1e15, le=1e15)
    """Largest value of the range, included."""
    log: bool = False
    """Sample the range on a logarithmic scale."""
    integer: bool = False
    """Sample integers only."""

    @model_validator(mode="before")
    @classmethod
    def _with_current_keys(cls, tree: Any) -> Any:
        return current_keys(tree, RANGE_KEYS)

    @model_validator(mode="after")
    def _holds_values(self) -> Self:
        if self.choices:
            if self.low or self.high or self.log or self.integer:
                raise ValueError("choices exclude low, high, log and integer")
            for choice in self.choices:
                is_scalar = isinstance(choice, bool | int | float | str | None)
                if not is_scalar or (isinstance(choice, float) and not isfinite(choice)):
                    raise ValueError(f"{shown(choice)} cannot be a choice")
            return self
        low, high = (round(self.low), round(self.high)) if self.integer else (self.low, self.high)
        if not low < high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g} holds no values")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic range cannot begin at {self.low:g}")
        return self


class TuneRecipe(Section):
    """How `flatvq tune` searches hyper-parameters and confirms the result."""

    trials: int = Field(30, ge=1, le=1_000_000)
    """Largest number of trials, including pruned ones."""
    finished: int = Field(0, ge=0, le=1_000_000)
    """Number of finished trials after which the search ends. Pruned and failed trials do not count, so that
    searches of different arms finish equally many. 0: the search ends after `trials`."""
    length: float = Field(0.5, gt=0, le=1)
    """Length of a trial, as a share of `train.steps`."""
    set_aside: float = Field(0.1, gt=0, lt=1)
    """Share of the training images that the search holds out to score its trials. The held-out images of the
    study are used only to confirm the winner."""
    seed: int = Field(0, ge=0, le=2_000_000_000)
    """Seed of the trials and of the sampler."""
    confirm_seeds: Seeds = Field((1001, 1002, 1003), min_length=2)
    """Seeds of the full-length trainings that compare the winner with the incumbent."""
    space: dict[str, ParameterRange] = Field({})
    """The hyper-parameters to search, by dotted recipe key. Two keys are special: `code_dim` sets D of every
    level; `upper_bits` sets log2 K of all levels above the bottom, and the bottom's K then keeps the total
    bits. Empty: the usual hyper-parameters of the codebook, and the learning rate."""
