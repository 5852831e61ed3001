"""A trial's recipe, resolved; a study's recipe: arms x seeds, what has to match, and the margin."""

from __future__ import annotations

from math import prod
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from flatvq.errors import nearest
from flatvq.recipe.reading import merge, parse
from flatvq.recipe.sections import (
    CodebookRecipe,
    DataRecipe,
    EvaluateRecipe,
    ModelRecipe,
    Section,
    TrainRecipe,
)

__all__ = [
    "ArmRecipe",
    "Capacity",
    "KnobRecipe",
    "MatchRecipe",
    "Sections",
    "StudyRecipe",
    "TrialRecipe",
    "TuneRecipe",
]

Capacity = Literal["bits", "parameters", "multiply_adds"]


class Sections(Section):
    """The sections that a trial and a study share."""

    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    codebook: CodebookRecipe = CodebookRecipe()
    train: TrainRecipe = TrainRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()

    @model_validator(mode="after")
    def _crop_fits_grid(self) -> Self:
        factor = prod(level.downsample for level in self.model.levels)
        if self.data.crop % factor:
            raise ValueError(
                f"data.crop must be a multiple of {factor}, the levels' total downsampling, "
                f"not {self.data.crop}"
            )
        return self


class TrialRecipe(Sections):
    """One training, resolved: an arm with a seed."""

    arm: str = "default"
    """Name of the arm."""
    seed: int = Field(0, ge=0)
    """Everything random in the trial follows from this number and the step."""


class MatchRecipe(Section):
    """Which capacities have to agree before arms may be compared."""

    reference: str = ""
    """The arm that the others are matched to; empty: the first."""
    capacities: tuple[Capacity, ...] = ("bits",)
    """What has to agree within `tolerance`."""
    tolerance: float = Field(0.01, gt=0)
    """Largest relative difference that counts as matched."""
    solve: bool = False
    """Choose `codebook_size` and the widths of arms that are off so that they match; false: take every arm
    as it is written, and refuse the study if one is off."""
    nearest: bool = False
    """With `solve`: admit arms that no choice brings within the tolerance, as near as they come. What is left
    is told beside every result."""
    unmatched: tuple[str, ...] = ()
    """Arms, by name, that are compared although they do not match."""

    @model_validator(mode="after")
    def _nearest_is_solved_for(self) -> Self:
        if self.nearest and not self.solve:
            raise ValueError("nearest: true needs solve: true")
        return self


class KnobRecipe(Section):
    """The values that one hyper-parameter may take: a list of choices, or a range."""

    choices: tuple[Any, ...] = ()
    """One of these; if not given, a number from `low` to `high`."""
    low: float = 0.0
    """Least value."""
    high: float = 0.0
    """Greatest value."""
    log: bool = False
    """Look at ratios rather than differences."""
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="after")
    def _some_values(self) -> Self:
        if not self.choices and not self.low < self.high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g} holds no values")
        if not self.choices and self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range cannot begin at {self.low:g}")
        return self


class TuneRecipe(Section):
    """What `flatvq tune` looks for, by which images, and how what it finds is confirmed."""

    trials: int = Field(30, ge=1)
    """How many settings are tried, those that are given up early among them."""
    length: float = Field(0.5, gt=0, le=1)
    """Steps of such a trial, as a share of `train.steps`."""
    set_aside: float = Field(0.1, gt=0, lt=1)
    """Share of the training images that trials are chosen by. The held-out images are not looked at until
    the winner is confirmed."""
    seed: int = Field(0, ge=0)
    """Of the trials and of the sampler."""
    confirm_seeds: tuple[int, ...] = Field((1001, 1002, 1003), min_length=2)
    """Seeds of the full-length trainings that compare the winner with the incumbent."""
    space: dict[str, KnobRecipe] = Field({})
    """What may change, by dotted key; `code_dim` stands for D of every level, `upper_bits` for log2 K of the
    levels above the bottom, whose K then keeps the bits. Empty: the codebook's usual hyper-parameters and the
    learning rate."""


class ArmRecipe(Section):
    """One arm: a diff against the study's sections."""

    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    codebook: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)


class StudyRecipe(Sections):
    """Arms x seeds, what has to match, and the margin, fixed before the first run."""

    title: str = ""
    """One line that says what the study asks."""
    arms: dict[str, ArmRecipe] = Field({"default": ArmRecipe()}, min_length=1)
    """Diffs by name, against the sections above."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """The seeds; each arm is trained once with each."""
    match: MatchRecipe = MatchRecipe()
    """Matched capacity."""
    margin_db: float = Field(0.1, gt=0)
    """Differences of PSNR inside plus or minus this count as equivalent."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs (a, b) of arms to compare; empty: every pair that differs in the model alone or in the codebook
    alone."""
    tune: TuneRecipe = TuneRecipe()
    """What `flatvq tune` does."""
    workers: int = Field(0, ge=0)
    """Trials at the same time; 0: one per core on a CPU, one per GPU."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if not self.match.reference:
            object.__setattr__(
                self, "match", self.match.model_copy(update={"reference": next(iter(self.arms))})
            )
        named = [
            self.match.reference,
            *self.match.unmatched,
            *(name for pair in self.compare for name in pair),
        ]
        for name in named:
            if name not in self.arms:
                raise ValueError(f"no arm is named {name!r}, {nearest(name, self.arms)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ, not {list(self.seeds)}")
        for name in self.arms:
            self.trial(name, self.seeds[0])
        return self

    def trial(self, arm: str, seed: int) -> TrialRecipe:
        """Resolve an arm with a seed into a trial's recipe, before any matching."""
        sections = self.model_dump(include=set(Sections.model_fields))
        return parse(TrialRecipe, {**merge(sections, self.arms[arm].model_dump()), "arm": arm, "seed": seed})
