"""A trial's recipe, resolved; a study's recipe: arms x seeds, what has to match, and the margin."""

from __future__ import annotations

from math import isfinite, prod
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flatvq.errors import nearest
from flatvq.paths import name_fault, same_name
from flatvq.recipe.reading import merge, parse, shown
from flatvq.recipe.renamed import current_keys
from flatvq.recipe.section import Section, Seed, Seeds
from flatvq.recipe.sections import (
    CodebookRecipe,
    DataRecipe,
    EvaluateRecipe,
    ModelRecipe,
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

_MOST_TRIALS = 10_000

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

    @model_validator(mode="after")
    def _replacement_can_happen(self) -> Self:
        replacement = self.codebook.replacement
        if replacement is not None and replacement.start:
            stop = round(replacement.stop * self.train.steps)
            if replacement.start >= stop:
                what = f"codebook.replacement.start is {replacement.start}"
                raise ValueError(f"{what}, but replacement stops at step {stop}")
        return self


class TrialRecipe(Sections):
    """One training, resolved: an arm with a seed."""

    arm: str = "default"
    """Name of the arm."""
    seed: Seed = 0
    """Everything random in the trial follows from this number and the step."""


class MatchRecipe(Section):
    """Which capacities have to agree before arms may be compared."""

    reference: str = ""
    """The arm that the others are matched to; empty: the first."""
    capacities: tuple[Capacity, ...] = ("bits",)
    """What has to agree within `tolerance`."""
    tolerance: float = Field(0.01, gt=0, le=1)
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
    low: float = Field(0.0, ge=-1e15, le=1e15)
    """Least value."""
    high: float = Field(0.0, ge=-1e15, le=1e15)
    """Greatest value."""
    log: bool = False
    """Look at ratios rather than differences."""
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="after")
    def _some_values(self) -> Self:
        if self.choices:
            if self.low or self.high or self.log or self.whole:
                raise ValueError("choices exclude low, high, log and whole")
            for choice in self.choices:
                known = isinstance(choice, bool | int | float | str | None)
                if not known or (isinstance(choice, float) and not isfinite(choice)):
                    raise ValueError(f"{shown(choice)} is no value to choose")
            return self
        low, high = (round(self.low), round(self.high)) if self.whole else (self.low, self.high)
        if not low < high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g} holds no values")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic range cannot begin at {self.low:g}")
        return self


class TuneRecipe(Section):
    """What `flatvq tune` looks for, by which images, and how what it finds is confirmed."""

    trials: int = Field(30, ge=1, le=1_000_000)
    """Number of trials, pruned ones included."""
    length: float = Field(0.5, gt=0, le=1)
    """Steps of such a trial, as a share of `train.steps`."""
    set_aside: float = Field(0.1, gt=0, lt=1)
    """Share of the training images that trials are chosen by. The held-out images are not looked at until
    the winner is confirmed."""
    seed: int = Field(0, ge=0, le=2_000_000_000)
    """Of the trials and of the sampler."""
    confirm_seeds: Seeds = Field((1001, 1002, 1003), min_length=2)
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

    @field_validator("codebook", mode="before")
    @classmethod
    def _with_current_keys(cls, codebook: Any) -> Any:
        return current_keys(codebook)


class StudyRecipe(Sections):
    """Arms x seeds, what has to match, and the margin, fixed before the first run."""

    title: str = ""
    """One line that says what the study asks."""
    arms: dict[str, ArmRecipe] = Field({"default": ArmRecipe()}, min_length=1, max_length=256)
    """Diffs by name, against the sections above. A name becomes a folder's: at most 64 characters."""
    seeds: Seeds = Field((0, 1, 2), min_length=1)
    """The seeds; each arm is trained once with each."""
    match: MatchRecipe = MatchRecipe()
    """Matched capacity."""
    margin_db: float = Field(0.1, gt=0, le=100)
    """Differences of PSNR inside plus or minus this count as equivalent."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs (a, b) of arms to compare; empty: every pair that differs in the model alone or in the codebook
    alone."""
    tune: TuneRecipe = TuneRecipe()
    """What `flatvq tune` does."""
    workers: int = Field(0, ge=0, le=10_000)
    """Trials at the same time; 0: one per core on a CPU, one per GPU."""

    @model_validator(mode="after")
    def _trials_can_be_listed(self) -> Self:
        number = len(self.arms) * len(self.seeds)
        if number > _MOST_TRIALS:
            what = f"{len(self.arms)} arms with {len(self.seeds)} seeds are {number:,} trials"
            raise ValueError(f"{what}, more than {_MOST_TRIALS:,}")
        return self

    @model_validator(mode="after")
    def _names_become_folders(self) -> Self:
        before: dict[str, str] = {}
        for name in self.arms:
            if fault := name_fault(name):
                raise ValueError(f"the arm's name {shown(name)} {fault}, and has to be a folder's name")
            if other := before.get(same_name(name)):
                raise ValueError(f"the arms {other!r} and {name!r} would share a folder on some systems")
            before[same_name(name)] = name
        return self

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
        for a, b in self.compare:
            if a == b:
                raise ValueError(f"compare holds the pair ({a}, {b}), an arm with itself")
        for name in self.arms:
            self.trial(name, self.seeds[0])
        return self

    def trial(self, arm: str, seed: int) -> TrialRecipe:
        """Resolve an arm with a seed into a trial's recipe, before any matching."""
        sections = self.model_dump(include=set(Sections.model_fields))
        tree = {**merge(sections, self.arms[arm].model_dump()), "arm": arm, "seed": seed}
        return parse(TrialRecipe, tree, f"arm {arm!r}")
