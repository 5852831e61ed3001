"""The recipes of a study (arms, seeds, matching rule, equivalence margin) and of one trial."""

from __future__ import annotations

from math import isfinite, prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flatvq.capacities import CAPACITIES
from flatvq.errors import UnknownNameError, nearest
from flatvq.metrics import PRIMARY, TRIAL_METRICS
from flatvq.paths import name_fault, same_name
from flatvq.recipe.data import DataRecipe
from flatvq.recipe.reading import merge, parse, shown
from flatvq.recipe.renamed import CODEBOOK_KEYS, RANGE_KEYS, STUDY_KEYS, current_keys
from flatvq.recipe.section import NameIn, Section, Seed, Seeds
from flatvq.recipe.sections import CodebookRecipe, EvaluateRecipe, ModelRecipe, TrainRecipe

__all__ = [
    "ArmRecipe",
    "Capacity",
    "MatchRecipe",
    "ParameterRange",
    "Sections",
    "StudyRecipe",
    "TrialRecipe",
    "TuneRecipe",
]

_MAX_TRIALS = 10_000
_LOOKS = (8, 16, 32, 64, 128)

LookSize = Annotated[int, Field(ge=1, le=_MAX_TRIALS)]


Capacity = Annotated[str, NameIn(CAPACITIES)]
"""A key of `flatvq.capacities.CAPACITIES`."""


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
                f"data.crop must be a multiple of {factor}, the total downsampling of the levels, "
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

    @model_validator(mode="after")
    def _levels_start_during_training(self) -> Self:
        for number, level in enumerate(self.model.levels):
            ready = level.start + level.warmup_steps
            if ready and ready >= self.train.steps:
                what = f"model.levels.{number} starts fully at step {ready} (start + warmup_steps)"
                raise ValueError(f"{what}, but training ends at step {self.train.steps}")
        return self


class TrialRecipe(Sections):
    """The recipe of one trial: an arm, fully resolved, with a seed."""

    arm: str = "default"
    """Name of the arm."""
    seed: Seed = 0
    """Seed of the trial. Together with the step it determines every random number of the trial."""


class MatchRecipe(Section):
    """Which capacities the arms must share before a study compares them."""

    reference: str = ""
    """Name of the arm that the other arms are matched to. Empty: the first arm."""
    capacities: tuple[Capacity, ...] = ("bits",)
    """Capacities that must agree with the reference arm within `tolerance`."""
    tolerance: float = Field(0.01, gt=0, le=1)
    """Largest relative difference from the reference arm that counts as matched: 0.01 is 1 %."""
    solve: bool = False
    """true: adjust `codebook_size`, `width` and `residual_width` of the arms that do not match. false: use
    every arm as written, and reject the study if an arm does not match."""
    nearest: bool = False
    """Used with `solve: true`. true: accept the closest match for an arm that cannot reach the tolerance; the
    report states the remaining difference. false: reject the study."""
    unmatched: tuple[str, ...] = ()
    """Names of arms that are compared as written although they do not match."""

    @model_validator(mode="after")
    def _nearest_needs_solve(self) -> Self:
        if self.nearest and not self.solve:
            raise ValueError("nearest: true needs solve: true")
        return self


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
    """Number of finished trials, without pruned and failed ones, after which the search ends. It gives
    searches of different arms the same number. 0: the search ends after `trials`."""
    length: float = Field(0.5, gt=0, le=1)
    """Length of a trial, as a share of `train.steps`."""
    set_aside: float = Field(0.1, gt=0, lt=1)
    """Share of the training images that is set aside to score the trials. The held-out images are used only
    to confirm the winner."""
    seed: int = Field(0, ge=0, le=2_000_000_000)
    """Seed of the trials and of the sampler."""
    confirm_seeds: Seeds = Field((1001, 1002, 1003), min_length=2)
    """Seeds of the full-length trainings that compare the winner with the incumbent."""
    space: dict[str, ParameterRange] = Field({})
    """The hyper-parameters to search, by dotted recipe key. Two keys are special: `code_dim` sets D of every
    level; `upper_bits` sets log2 K of all levels above the bottom, and the bottom's K then keeps the total
    bits. Empty: the usual hyper-parameters of the codebook, and the learning rate."""


class ArmRecipe(Section):
    """One arm: a diff against the sections of the study."""

    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    codebook: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)
    max_seeds: int = Field(0, ge=0)
    """Train this arm with this number of seeds at most. 0: with all seeds. For `interval: welch` only."""

    @field_validator("codebook", mode="before")
    @classmethod
    def _with_current_keys(cls, codebook: Any) -> Any:
        return current_keys(codebook, CODEBOOK_KEYS)


class StudyRecipe(Sections):
    """The recipe of a study: arms are trained with several seeds, and matched arms are compared."""

    title: str = ""
    """The question of the study, in one line."""
    arms: dict[str, ArmRecipe] = Field({"default": ArmRecipe()}, min_length=1, max_length=256)
    """The arms by name, each a diff against the sections above. A name is also a folder name and has at most
    64 characters."""
    looks: tuple[LookSize, ...] = ()
    """Numbers of seeds after which the study is judged, in increasing order. `flatvq study` trains up to the
    next look, and stops for good at the first look that settles the primary comparison. Empty: 8, 16, 32, 64
    and 128 seeds, or all `seeds` at once if they are given."""
    seeds: Seeds = ()
    """The seeds, in the order in which they are trained. Each arm is trained once with each seed. Empty: 0,
    1, 2, ... up to the last look. If there are fewer seeds than the last look has, the last look is at all
    seeds."""
    match: MatchRecipe = MatchRecipe()
    """Which capacities the arms must share."""
    metric: Annotated[str, NameIn(TRIAL_METRICS)] = PRIMARY
    """The metric that is compared, one number per trial."""
    margin: float = Field(0.1, gt=0, le=100)
    """The largest difference of the metric that does not matter, in its unit (dB for PSNR). Two arms are
    equivalent if the interval of their difference lies within plus or minus the margin."""
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
    """Four arms [a, b, c, d] each: (a - b) - (c - d) is compared with zero. Empty: for each two models, how
    much more the first one gains by the measures against codebook collapse than the second."""
    tune: TuneRecipe = TuneRecipe()
    """Settings of `flatvq tune`."""
    workers: int = Field(0, ge=0, le=10_000)
    """Number of trials that run at the same time. 0: one per CPU core, or one per GPU."""

    @model_validator(mode="before")
    @classmethod
    def _with_current_study_keys(cls, tree: Any) -> Any:
        return current_keys(tree, STUDY_KEYS)

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
    def _pairs_need_the_same_seeds(self) -> Self:
        limited = [name for name, arm in self.arms.items() if arm.max_seeds]
        if limited and self.interval == "paired":
            raise ValueError(f"arm {limited[0]!r} has max_seeds, which needs interval: welch")
        return self

    @model_validator(mode="after")
    def _not_too_many_trials(self) -> Self:
        count = sum(len(self.seeds_of(arm)) for arm in self.arms)
        if count > _MAX_TRIALS:
            what = f"{len(self.arms)} arms with up to {len(self.seeds)} seeds are {count:,} trials"
            raise ValueError(f"{what}, more than {_MAX_TRIALS:,}")
        return self

    @model_validator(mode="after")
    def _names_can_be_folders(self) -> Self:
        by_folder: dict[str, str] = {}
        for name in self.arms:
            if fault := name_fault(name):
                raise ValueError(f"the arm name {shown(name)} {fault}, so it cannot be a folder name")
            if earlier := by_folder.get(same_name(name)):
                raise ValueError(f"the arms {earlier!r} and {name!r} would share a folder on some systems")
            by_folder[same_name(name)] = name
        return self

    @model_validator(mode="after")
    def _arms_exist_and_resolve(self) -> Self:
        if not self.match.reference:
            self._set(match=self.match.model_copy(update={"reference": next(iter(self.arms))}))
        named = [
            self.match.reference,
            *self.match.unmatched,
            *self.primary,
            *(name for arms in (*self.compare, *self.interactions) for name in arms),
        ]
        for name in named:
            if name not in self.arms:
                raise UnknownNameError(f"no arm is named {name!r}", nearest(name, self.arms))
        if len(self.primary) not in (0, 2):
            raise ValueError(f"primary must name two arms, not {list(self.primary)}")
        for a, b in (*self.compare, *([self.primary] if self.primary else [])):
            if a == b:
                raise ValueError(f"the pair ({a}, {b}) compares an arm with itself")
        for name in self.arms:
            self.trial(name, self.seeds[0])
        return self

    def trial(self, arm: str, seed: int) -> TrialRecipe:
        """Return the recipe of one trial, before matching.

        Args:
            arm: name of the arm.
            seed: the seed.

        Raises:
            FlatvqError: if a key or value of the arm is not valid.
        """
        sections = self.model_dump(include=set(Sections.model_fields))
        diff = self.arms[arm].model_dump(include=set(Sections.model_fields))
        return parse(TrialRecipe, {**merge(sections, diff), "arm": arm, "seed": seed}, f"arm {arm!r}")

    def seeds_of(self, arm: str, seeds: int | None = None) -> tuple[int, ...]:
        """Return the seeds of an arm at a look.

        Args:
            arm: name of the arm.
            seeds: the number of seeds of the look; by default that of the last look.
        """
        return self.seeds[: min(self.arms[arm].max_seeds or len(self.seeds), seeds or len(self.seeds))]

    def _set(self, **values: Any) -> None:
        """Fill in values that follow from others. The recipe is frozen for everyone else."""
        for key, value in values.items():
            object.__setattr__(self, key, value)
