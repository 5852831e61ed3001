"""The recipes of a study (arms, seeds, matching rule, equivalence margin) and of one trial."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from flatvq.capacities import CAPACITIES
from flatvq.errors import UnknownNameError, suggestion
from flatvq.metrics import TRIAL_METRICS
from flatvq.paths import name_fault, same_name
from flatvq.recipe.cluster import ClusterRecipe
from flatvq.recipe.comparisons import MOST_TRIALS, Comparisons
from flatvq.recipe.data import DataRecipe
from flatvq.recipe.reading import merge, parse, shown
from flatvq.recipe.renamed import CODEBOOK_KEYS, STUDY_KEYS, current_keys
from flatvq.recipe.section import NameIn, Section, Seed
from flatvq.recipe.sections import CodebookRecipe, EvaluateRecipe, ModelRecipe, TrainRecipe
from flatvq.recipe.tune import TuneRecipe

__all__ = [
    "ArmRecipe",
    "Capacity",
    "MatchRecipe",
    "Sections",
    "StudyRecipe",
    "TrialRecipe",
]


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
        if replacement is None or not replacement.start:
            return self
        for number, level in enumerate(self.model.levels):
            # A level counts its steps from its own start.
            stop = round(replacement.stop * (self.train.steps - level.start))
            if level.has_codebook and replacement.start >= stop:
                what = f"codebook.replacement.start is {replacement.start}"
                late = f" of model.levels.{number}, which starts at step {level.start}" if level.start else ""
                raise ValueError(f"{what}, but replacement stops at step {stop}{late}")
        return self

    @model_validator(mode="after")
    def _levels_start_during_training(self) -> Self:
        for number, level in enumerate(self.model.levels):
            ready = level.start + level.warmup_steps
            if ready and ready >= self.train.steps:
                what = f"model.levels.{number} starts fully at step {ready} (start + warmup_steps)"
                raise ValueError(f"{what}, but training ends at step {self.train.steps}")
        return self

    @model_validator(mode="after")
    def _residuals_have_a_euclidean_metric(self) -> Self:
        for number, level in enumerate(self.model.levels):
            if level.quantizer == "residual" and self.codebook.metric != "euclidean":
                what = f"codebook.metric={self.codebook.metric} does not exist for quantizer=residual"
                raise ValueError(f"{what} of model.levels.{number}")
        return self


class TrialRecipe(Sections):
    """The recipe of one trial: an arm, fully resolved, with a seed."""

    arm: str = "default"
    """Name of the arm."""
    seed: Seed = 0
    """Seed of the trial. Together with the step it determines every random number of the trial."""

    def identifying(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Return the keys that identify a recipe.

        Keys that older versions did not have are left out while they have no effect, so that studies of older
        versions can be resumed.

        Args:
            exclude: keys to leave out.

        Example:
            >>> recipe = TrialRecipe()
            >>> "text" in recipe.model_dump()["evaluate"], "text" in recipe.identifying()["evaluate"]
            (True, False)
        """
        tree = self.model_dump(mode="json", exclude=set(exclude))
        added = ("text", "detail")
        evaluate = {key: value for key, value in tree["evaluate"].items() if value or key not in added}
        unused_keys = () if self.data.source == "shards" else ("image_suffix", "shuffle_mib")
        data = {key: value for key, value in tree["data"].items() if key not in unused_keys}
        return {**tree, "data": data, "evaluate": evaluate}


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


class ArmRecipe(Section):
    """One arm: a diff against the sections of the study."""

    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    codebook: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)
    max_seeds: int = Field(0, ge=0)
    """Train this arm with this number of seeds at most. 0: with all seeds. For `interval: welch` only. An arm
    of the primary comparison needs at least the seeds of the first look."""

    @field_validator("codebook", mode="before")
    @classmethod
    def _with_current_keys(cls, codebook: Any) -> Any:
        return current_keys(codebook, CODEBOOK_KEYS)


class StudyRecipe(Sections, Comparisons):
    """The recipe of a study: arms are trained with several seeds, and matched arms are compared."""

    title: str = ""
    """The question of the study, in one line."""
    arms: dict[str, ArmRecipe] = Field({"default": ArmRecipe()}, min_length=1, max_length=256)
    """The arms by name, each a diff against the sections above. A name is also a folder name and has at most
    64 characters."""
    match: MatchRecipe = MatchRecipe()
    """Which capacities the arms must share."""
    tune: TuneRecipe = TuneRecipe()
    """Settings of `flatvq tune`."""
    workers: int = Field(0, ge=0, le=10_000)
    """Number of trials that run at the same time. 0: one per CPU core, or one per GPU."""
    cluster: ClusterRecipe = ClusterRecipe()
    """How the trials run on a cluster."""

    @model_validator(mode="before")
    @classmethod
    def _with_current_study_keys(cls, tree: Any) -> Any:
        return current_keys(tree, STUDY_KEYS)

    @model_validator(mode="after")
    def _pairs_need_the_same_seeds(self) -> Self:
        limited = [name for name, arm in self.arms.items() if arm.max_seeds]
        if limited and self.interval == "paired":
            raise ValueError(f"arm {limited[0]!r} has max_seeds, which needs interval: welch")
        return self

    @model_validator(mode="after")
    def _not_too_many_trials(self) -> Self:
        count = sum(len(self.seeds_of(arm)) for arm in self.arms)
        if count > MOST_TRIALS:
            what = f"{len(self.arms)} arms with up to {len(self.seeds)} seeds are {count:,} trials"
            raise ValueError(f"{what}, more than {MOST_TRIALS:,}")
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
    def _arms_exist(self) -> Self:
        if not self.match.reference:
            self._set(match=self.match.model_copy(update={"reference": next(iter(self.arms))}))
        named = [
            self.match.reference,
            *self.match.unmatched,
            *self.primary,
            *(name for arms in (*self.compare, *self.interactions) for name in arms),
            *(name for pair in self.curves for name in (*pair.a, *pair.b)),
        ]
        for name in named:
            if name not in self.arms:
                raise UnknownNameError(f"no arm is named {name!r}", suggestion(name, self.arms))
        return self

    @model_validator(mode="after")
    def _comparisons_name_different_arms(self) -> Self:
        if len(self.primary) not in (0, 2):
            raise ValueError(f"primary must name two arms, not {list(self.primary)}")
        for a, b in (*self.compare, *([self.primary] if self.primary else [])):
            if a == b:
                raise ValueError(f"the pair ({a}, {b}) compares an arm with itself")
        pairs = [frozenset(pair) for pair in self.compare]
        for names in self.compare:
            if pairs.count(frozenset(names)) > 1:
                raise ValueError(f"compare names the pair {list(names)} twice")
        for arms in self.interactions:
            if len(set(arms)) < len(arms):  # variances add up only if the arms are independent
                raise ValueError(f"the interaction {list(arms)} names an arm twice")
        for pair in self.curves:
            if len({*pair.a, *pair.b}) < len(pair.a) + len(pair.b):
                raise ValueError(f"the curves {list(pair.a)} and {list(pair.b)} name an arm twice")
        return self

    @model_validator(mode="after")
    def _compared_values_are_measured(self) -> Self:
        for pair in self.curves:
            if pair.bits == "coded":
                self._require_same_prior("curves with coded bits need", (*pair.a, *pair.b))
        metric = TRIAL_METRICS[self.metric]
        if metric.needs == "prior_images":
            self._require_same_prior("metric 'coded_bits_per_image' needs", tuple(self.arms))
            return self
        for name in self.arms:
            trial, what = self.trial(name, self.seeds[0]), f"metric {self.metric!r} needs"
            if metric.needs and not getattr(trial.evaluate, metric.needs):
                raise ValueError(f"{what} evaluate.{metric.needs}, which arm {name!r} does not set")
            if (crop := trial.data.crop) < (least := metric.smallest_crop):
                raise ValueError(f"{what} crops of {least} pixels or more, but arm {name!r} has {crop}")
        return self

    def _require_same_prior(self, subject: str, arms: Sequence[str]) -> None:
        """Check that the coded bits of arms are measured, with priors of the same kind.

        Args:
            subject: what compares the coded bits, with a verb.
            arms: the names of the arms.
        """
        evaluated = {name: self.trial(name, self.seeds[0]).evaluate for name in arms}
        for name, section in evaluated.items():
            if not section.prior_images:
                raise ValueError(f"{subject} evaluate.prior_images, which arm {name!r} does not set")
            for key in ("prior_images", "prior_kind"):
                if (value := getattr(section, key)) != (first := getattr(evaluated[arms[0]], key)):
                    pair = f"arm {arms[0]!r} has {shown(first)} and arm {name!r} has {shown(value)}"
                    raise ValueError(f"{subject} an equal evaluate.{key}, but {pair}")

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
            seeds: the number of seeds of the look; by default, of the last look.
        """
        return self.seeds[: min(self.arms[arm].max_seeds or len(self.seeds), seeds or len(self.seeds))]
