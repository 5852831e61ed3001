"""The plan of a study, fixed before the first run: arms, matched; trials; the comparisons to be made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
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

Question = Literal["hierarchy", "intervention", "asked"]

# How many means against collapse a treatment has.
_MEANS: dict[Treatment, int] = {"naive": 0, "init": 1, "replacement": 1, "healthy": 2}


@dataclass(frozen=True)
class PlannedArm:
    """An arm after matching."""

    name: str
    recipe: TrialRecipe
    """Resolved, with the study's first seed."""
    capacity: Capacity
    """At the size of the crops."""
    changes: dict[str, tuple[int, int]]
    """What the solver changed: old and new by dotted key of the model."""
    residuals: dict[CapacityName, float]
    """Relative differences from the reference arm."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arm as `study.json` holds it."""
        capacity = asdict(self.capacity)
        levels = capacity.pop("levels")
        return {
            "name": self.name,
            "levels": len(levels),
            "hierarchy": self.recipe.model.hierarchy,
            "treatment": self.treatment,
            "healthy": self.healthy,
            **capacity,
            "level_table": levels,
        }

    @property
    def treatment(self) -> Treatment:
        """Measures against collapse of every codebook; `healthy` for a model without codebooks."""
        has_codebook = any(level.has_codebook for level in self.recipe.model.levels)
        return self.recipe.codebook.treatment if has_codebook else "healthy"

    @property
    def healthy(self) -> bool:
        """Whether collapse is worked against in both ways."""
        return self.treatment == "healthy"


@dataclass(frozen=True)
class Trial:
    """One training of the study."""

    recipe: TrialRecipe
    run: Path
    """Its folder, relative to the study's."""


@dataclass(frozen=True)
class Comparison:
    """A pair of arms; the difference is a minus b."""

    question: Question
    a: str
    b: str


@dataclass(frozen=True)
class Plan:
    """All that a study will do."""

    name: str
    recipe: StudyRecipe
    arms: tuple[PlannedArm, ...]
    trials: tuple[Trial, ...]
    comparisons: tuple[Comparison, ...]

    def arm(self, name: str) -> PlannedArm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


def plan_study(recipe: StudyRecipe, name: str) -> Plan:
    """Resolve and match the arms of a study, and refuse it if they do not match.

    Args:
        recipe: the study.
        name: what to call it.

    Returns:
        The plan.

    Raises:
        FlatvqError: if an arm is off the reference by more than the tolerance, and is not named in
            `match.unmatched`, and the nearest was not asked for; the residual is named. Or if no two of
            several arms can be compared.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> plan = plan_study(load_recipe("photographs"), "photographs")
        >>> len(plan.trials), plan.comparisons[0].question
        (16, 'hierarchy')
    """
    arms = planned_arms(recipe)
    if len({arm.recipe.model.channels for arm in arms}) > 1:
        what = "arms with model.channels 1 and 3 are measured on different images"
        raise FlatvqError(what, "give all arms the same model.channels")
    for arm in arms:
        require_memory(arm.recipe.model, training_bytes(arm.recipe))
        _refuse_unmatched(arm, recipe.match)
    # Seed by seed, so that a study that is cut short has compared something.
    trials = [_trial(arm, seed) for seed in recipe.seeds for arm in arms]
    comparisons = _comparisons(recipe, arms)
    if len(arms) > 1 and not comparisons:
        what = "no two arms differ in the model alone or in the codebook alone, so none would be compared"
        raise FlatvqError(what, f"name the pairs that are meant: compare: [[{arms[0].name}, {arms[1].name}]]")
    return Plan(name, recipe, arms, tuple(trials), comparisons)


def planned_trial(recipe: StudyRecipe, arm: str, seed: int) -> TrialRecipe:
    """Resolve and match one arm with a seed; the first arm if none is named.

    Raises:
        FlatvqError: if there is no such arm, or this machine has not the memory for its model.
    """
    name = arm or next(iter(recipe.arms))
    if name not in recipe.arms:
        raise FlatvqError(f"no arm is named {name!r}", nearest(name, recipe.arms))
    planned = next(one for one in planned_arms(recipe) if one.name == name)
    require_memory(planned.recipe.model)
    return planned.recipe.model_copy(update={"seed": seed})


def planned_arms(recipe: StudyRecipe, size: int | None = None) -> tuple[PlannedArm, ...]:
    """Resolve the arms of a study and match them if the recipe says so; nothing is refused.

    Args:
        recipe: the study.
        size: side of the image for which capacities are counted; the reference arm's crop if not given.
    """
    seed = recipe.seeds[0]
    written = {name: recipe.trial(name, seed) for name in recipe.arms}
    reference = written[recipe.match.reference]
    # One size for all, so that residuals compare models and not crops.
    size = size or reference.data.crop
    target = capacity_of(reference.model, size)
    arms = []
    for name, trial in written.items():
        model, changes = trial.model, {}
        if recipe.match.solve and name not in recipe.match.unmatched:
            matched = match(model, target, size, recipe.match.capacities, recipe.match.tolerance)
            model, changes = matched.model, matched.changes
        capacity = capacity_of(model, size)
        resolved = trial.model_copy(update={"model": model})
        arms.append(PlannedArm(name, resolved, capacity, changes, residuals(capacity, target)))
    return tuple(arms)


def _refuse_unmatched(arm: PlannedArm, rule: MatchRecipe) -> None:
    if arm.name in rule.unmatched or rule.nearest:
        return
    off = {name: arm.residuals[name] for name in rule.capacities if abs(arm.residuals[name]) > rule.tolerance}
    if off:
        found = ", ".join(f"{name} {value:+.1%}" for name, value in off.items())
        what = f"arm {arm.name!r} does not match {rule.reference!r}: {found} (tolerance {rule.tolerance:.1%})"
        # What the solver could not reach, it will not reach when it is asked again.
        solving = "set match.nearest=true, " if rule.solve else "set match.solve=true, "
        raise FlatvqError(what, f"{solving}change its model, or name it in match.unmatched")


def _trial(arm: PlannedArm, seed: int) -> Trial:
    recipe = arm.recipe.model_copy(update={"seed": seed})
    return Trial(recipe, Path("runs") / arm.name / f"seed-{seed}-{trial_key(recipe)}")


def trial_key(recipe: TrialRecipe) -> str:
    """Hash the recipe of a trial, to name its folder.

    Only the recipe: what else decides the result (images, version, protocols) is the trial's identity, which
    is stored in the folder and compared (`flatvq.train.identity`). If it were hashed too, changed images
    would give another folder, and the trial would be trained again without a message.
    """
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _comparisons(recipe: StudyRecipe, arms: tuple[PlannedArm, ...]) -> tuple[Comparison, ...]:
    if recipe.compare:
        return tuple(Comparison(_question(recipe, arms, a, b) or "asked", a, b) for a, b in recipe.compare)
    found = []
    for first, second in combinations(arms, 2):
        question = _question(recipe, arms, first.name, second.name)
        if question is not None:
            a, b = _ordered(first, second, question)
            found.append(Comparison(question, a.name, b.name))
    return tuple(sorted(found, key=lambda comparison: comparison.question))


def _question(recipe: StudyRecipe, arms: tuple[PlannedArm, ...], a: str, b: str) -> Question | None:
    """Tell what a pair of arms asks: they differ in the model alone, or in the codebook alone, or in more."""
    one, two = (next(arm.recipe for arm in arms if arm.name == name) for name in (a, b))
    if (one.data, one.train) != (two.data, two.train):
        return None
    if one.codebook == two.codebook and one.model != two.model:
        return "hierarchy"
    if one.model == two.model and one.codebook != two.codebook:
        return "intervention"
    return None


def _ordered(first: PlannedArm, second: PlannedArm, question: Question) -> tuple[PlannedArm, PlannedArm]:
    """Put first the model of fewer levels, or the arm that is worked on: the difference is its gain."""
    if question == "hierarchy":
        swap = len(first.recipe.model.levels) > len(second.recipe.model.levels)
    else:
        swap = _MEANS[second.treatment] > _MEANS[first.treatment]
    return (second, first) if swap else (first, second)
