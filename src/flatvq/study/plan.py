"""The plan of a study, fixed before the first run: the matched arms, the trials and the comparisons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from flatvq.errors import FlatvqError, nearest
from flatvq.model.capacity import Capacity, capacity_of
from flatvq.model.matching import match, residuals
from flatvq.model.memory import require_memory, training_bytes
from flatvq.recipe import Capacity as CapacityName
from flatvq.recipe import MatchRecipe, StudyRecipe, Treatment, TrialRecipe

__all__ = ["Comparison", "Plan", "PlannedArm", "Trial", "plan_study", "planned_arms", "planned_trial"]

Question = Literal["hierarchy", "intervention", "asked", "interaction"]

# The number of measures against collapse in each treatment.
_MEASURES: dict[Treatment, int] = {"naive": 0, "init": 1, "replacement": 1, "healthy": 2}


@dataclass(frozen=True)
class PlannedArm:
    """An arm after matching."""

    name: str
    recipe: TrialRecipe
    """The resolved recipe, with the first seed of the study."""
    capacity: Capacity
    """The capacity for an image of the size of the crops."""
    changes: dict[str, tuple[int, int]]
    """The changes of the solver: old and new value by dotted key of the model."""
    residuals: dict[CapacityName, float]
    """Relative differences in capacity from the reference arm."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arm as `study.json` holds it, without its identity."""
        capacity = asdict(self.capacity)
        levels, others = capacity.pop("levels"), capacity.pop("others")
        return {
            "name": self.name,
            "levels": len(levels),
            "hierarchy": self.recipe.model.hierarchy,
            "treatment": self.treatment,
            "healthy": self.healthy,
            **capacity,
            **others,
            "level_table": levels,
        }

    @property
    def treatment(self) -> Treatment:
        """The measures against collapse. An arm without codebooks is `healthy`."""
        has_codebook = any(level.has_codebook for level in self.recipe.model.levels)
        return self.recipe.codebook.treatment if has_codebook else "healthy"

    @property
    def healthy(self) -> bool:
        """Whether the arm has both measures against collapse, or has no codebooks."""
        return self.treatment == "healthy"


@dataclass(frozen=True)
class Trial:
    """One training of the study."""

    recipe: TrialRecipe
    run: Path
    """The folder of the run, relative to the folder of the study."""


@dataclass(frozen=True)
class Comparison:
    """A planned comparison: `a` minus `b`, or the interaction (`a` - `b`) - (`c` - `d`)."""

    question: Question
    a: str
    b: str
    c: str = ""
    d: str = ""
    primary: bool = False

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, two or four."""
        return tuple(filter(None, (self.a, self.b, self.c, self.d)))

    @property
    def weights(self) -> tuple[int, ...]:
        """The weight of each arm in the difference."""
        return (1, -1, -1, 1)[: len(self.arms)]


@dataclass(frozen=True)
class Plan:
    """The plan of a study."""

    name: str
    recipe: StudyRecipe
    arms: tuple[PlannedArm, ...]
    trials: tuple[Trial, ...]
    """Up to the last look, in the order of the seeds."""
    comparisons: tuple[Comparison, ...]
    """The primary comparison first."""

    def arm(self, name: str) -> PlannedArm:
        """Return the arm with a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def trials_at(self, look: int | None = None) -> list[Trial]:
        """Return the trials up to a look.

        Args:
            look: the number of seeds of the look; by default the last one.
        """
        seeds = set(self.recipe.seeds[:look])
        return [trial for trial in self.trials if trial.recipe.seed in seeds]

    @property
    def primary(self) -> Comparison | None:
        """The comparison that decides when the study stops; None in a study of one arm."""
        return next((comparison for comparison in self.comparisons if comparison.primary), None)


def plan_study(recipe: StudyRecipe, name: str) -> Plan:
    """Resolve and match the arms of a study.

    Args:
        recipe: the study.
        name: the name of the study.

    Returns:
        The plan.

    Raises:
        FlatvqError: if an arm differs from the reference by more than the tolerance, unless it is named in
            `match.unmatched` or the recipe sets `match.nearest`; if the arms differ in `model.channels`; if
            this machine has not enough memory; or if no two of several arms can be compared.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> plan = plan_study(load_recipe("photographs"), "photographs")
        >>> plan.primary.a, plan.primary.b, plan.recipe.looks
        ('single-level-healthy', 'two-level-healthy', (8, 16, 32))
    """
    arms = planned_arms(recipe)
    if len({arm.recipe.model.channels for arm in arms}) > 1:
        what = "arms with model.channels 1 and 3 are evaluated on different images"
        raise FlatvqError(what, "give all arms the same model.channels")
    for arm in arms:
        require_memory(arm.recipe.model, training_bytes(arm.recipe))
        _require_match(arm, recipe.match)
    # Seed by seed, so that a study that is stopped early can compare all arms over the first seeds.
    trials = [
        _plan_trial(arm, seed) for seed in recipe.seeds for arm in arms if seed in recipe.seeds_of(arm.name)
    ]
    comparisons = _comparisons(recipe, arms)
    if len(arms) > 1 and not comparisons:
        what = "no two arms differ only in the model or only in the codebook, so no arms would be compared"
        raise FlatvqError(what, f"name the pairs to compare: compare: [[{arms[0].name}, {arms[1].name}]]")
    return Plan(name, recipe, arms, tuple(trials), comparisons)


def planned_trial(recipe: StudyRecipe, arm: str, seed: int) -> TrialRecipe:
    """Resolve and match one arm, and set its seed.

    Args:
        recipe: the study.
        arm: the name of the arm; the first arm if empty.
        seed: the seed of the trial.

    Returns:
        The resolved recipe of the trial.

    Raises:
        FlatvqError: if there is no such arm, or this machine has not enough memory for its model.
    """
    name = arm or next(iter(recipe.arms))
    if name not in recipe.arms:
        raise FlatvqError(f"no arm is named {name!r}", nearest(name, recipe.arms))
    planned = next(candidate for candidate in planned_arms(recipe) if candidate.name == name)
    require_memory(planned.recipe.model)
    return planned.recipe.model_copy(update={"seed": seed})


def planned_arms(recipe: StudyRecipe, size: int | None = None) -> tuple[PlannedArm, ...]:
    """Resolve the arms of a study, and match them if the recipe sets `match.solve`.

    Unlike `plan_study`, it accepts arms that do not match.

    Args:
        recipe: the study.
        size: side of the image, in pixels, for which capacities are counted; by default the crop of the
            reference arm.

    Returns:
        The arms, in the order of the recipe.
    """
    seed = recipe.seeds[0]
    resolved = {name: recipe.trial(name, seed) for name in recipe.arms}
    reference = resolved[recipe.match.reference]
    # One image size for all arms, so that residuals compare models and not crops.
    size = size or reference.data.crop
    target = capacity_of(reference.model, size)
    arms = []
    for name, trial in resolved.items():
        model, changes = trial.model, {}
        if recipe.match.solve and name not in recipe.match.unmatched:
            matched = match(model, target, size, recipe.match.capacities, recipe.match.tolerance)
            model, changes = matched.model, matched.changes
        capacity = capacity_of(model, size)
        matched_recipe = trial.model_copy(update={"model": model})
        arms.append(PlannedArm(name, matched_recipe, capacity, changes, residuals(capacity, target)))
    return tuple(arms)


def _require_match(arm: PlannedArm, rule: MatchRecipe) -> None:
    if arm.name in rule.unmatched or rule.nearest:
        return
    too_far = {
        name: arm.residuals[name] for name in rule.capacities if abs(arm.residuals[name]) > rule.tolerance
    }
    if too_far:
        values = ", ".join(f"{name} {value:+.1%}" for name, value in too_far.items())
        what = (
            f"arm {arm.name!r} does not match {rule.reference!r}: {values} (tolerance {rule.tolerance:.1%})"
        )
        # If the solver has run, it cannot come closer. Then the user can only accept the nearest match.
        solving = "set match.nearest=true, " if rule.solve else "set match.solve=true, "
        raise FlatvqError(what, f"{solving}change its model, or name it in match.unmatched")


def _plan_trial(arm: PlannedArm, seed: int) -> Trial:
    recipe = arm.recipe.model_copy(update={"seed": seed})
    return Trial(recipe, Path("runs") / arm.name / f"seed-{seed}-{trial_key(recipe)}")


def trial_key(recipe: TrialRecipe) -> str:
    """Hash the recipe of a trial, to name its folder.

    The images, the version and the protocols also decide the result, but they are not hashed. They are the
    identity of the run, which is stored in its folder and compared (`flatvq.train.identity`). If they were
    hashed, a study with changed images would train every trial again in a new folder, without a message.

    Args:
        recipe: the resolved recipe, with its seed.

    Returns:
        Eight hexadecimal digits.
    """
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _comparisons(recipe: StudyRecipe, arms: tuple[PlannedArm, ...]) -> tuple[Comparison, ...]:
    """Return the comparisons: the primary one first, then pairs by question, then interactions."""
    pairs = _pairs(recipe, arms)
    primary = tuple(recipe.primary) or _primary_pair(pairs, arms)
    if recipe.primary and primary not in [(pair.a, pair.b) for pair in pairs]:
        a, b = primary
        pairs.insert(0, Comparison(_question(recipe, arms, a, b) or "asked", a, b))
    marked = [replace(pair, primary=(pair.a, pair.b) == primary) for pair in pairs]
    marked.sort(key=lambda pair: not pair.primary)
    return (*marked, *_interactions(recipe, pairs, arms))


def _pairs(recipe: StudyRecipe, arms: tuple[PlannedArm, ...]) -> list[Comparison]:
    if recipe.compare:
        return [Comparison(_question(recipe, arms, a, b) or "asked", a, b) for a, b in recipe.compare]
    comparisons = []
    for first, second in combinations(arms, 2):
        question = _question(recipe, arms, first.name, second.name)
        if question is not None:
            a, b = _ordered(first, second, question)
            comparisons.append(Comparison(question, a.name, b.name))
    return sorted(comparisons, key=lambda comparison: comparison.question)


def _primary_pair(pairs: Sequence[Comparison], arms: tuple[PlannedArm, ...]) -> tuple[str, ...]:
    """Return the first pair of healthy arms with different models, or else the first pair."""
    healthy = {arm.name for arm in arms if arm.healthy}
    hierarchy = [pair for pair in pairs if pair.question == "hierarchy" and {pair.a, pair.b} <= healthy]
    return next(((pair.a, pair.b) for pair in (*hierarchy, *pairs)), ())


def _interactions(
    recipe: StudyRecipe, pairs: Sequence[Comparison], arms: tuple[PlannedArm, ...]
) -> list[Comparison]:
    """Return the named interactions; by default, those of the model and the measures against collapse.

    (a healthy - a naive) - (b healthy - b naive) is how much more model a gains by the measures than model b.
    It equals the difference of the two hierarchy comparisons, so it says whether the measures changed the
    advantage of a hierarchy.
    """
    if recipe.interactions or recipe.compare:
        return [Comparison("interaction", *names) for names in recipe.interactions]
    by_name = {arm.name: arm for arm in arms}
    hierarchy = {(pair.a, pair.b): pair for pair in pairs if pair.question == "hierarchy"}
    gains = [
        pair
        for pair in pairs
        if pair.question == "intervention"
        and by_name[pair.a].healthy
        and by_name[pair.b].treatment == "naive"
    ]
    return [
        Comparison("interaction", first.a, first.b, second.a, second.b)
        for first in gains
        for second in gains
        if (first.a, second.a) in hierarchy and (first.b, second.b) in hierarchy
    ]


def _question(recipe: StudyRecipe, arms: tuple[PlannedArm, ...], a: str, b: str) -> Question | None:
    """Return the question that a pair of arms answers; None if the arms differ in more than one section."""
    first, second = (next(arm.recipe for arm in arms if arm.name == name) for name in (a, b))
    if (first.data, first.train) != (second.data, second.train):
        return None
    if first.codebook == second.codebook and first.model != second.model:
        return "hierarchy"
    if first.model == second.model and first.codebook != second.codebook:
        return "intervention"
    return None


def _ordered(first: PlannedArm, second: PlannedArm, question: Question) -> tuple[PlannedArm, PlannedArm]:
    """Put the model with fewer levels, or the arm with more measures against collapse, first.

    The difference, first minus second, is then the gain of that model or of the added measure.
    """
    if question == "hierarchy":
        swap = len(first.recipe.model.levels) > len(second.recipe.model.levels)
    else:
        swap = _MEASURES[second.treatment] > _MEASURES[first.treatment]
    return (second, first) if swap else (first, second)
