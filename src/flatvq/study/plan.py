"""The plan of a study, fixed before the first run: the matched arms, the trials and the comparisons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flatvq.errors import FlatvqError, suggestion
from flatvq.evaluate.benchmarks import require_benchmarks
from flatvq.model.capacity import capacity_of
from flatvq.model.matching import match, residuals
from flatvq.model.memory import require_memory, training_bytes
from flatvq.recipe import MatchRecipe, StudyRecipe, TrialRecipe
from flatvq.study.arms import PlannedArm
from flatvq.study.comparisons import Comparison, comparisons_of

__all__ = ["Plan", "Trial", "plan_study", "planned_arms", "planned_trial"]


@dataclass(frozen=True)
class Trial:
    """One training of the study."""

    recipe: TrialRecipe
    run: Path
    """The folder of the run, relative to the folder of the study."""


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
        """Return an arm.

        Args:
            name: the name of the arm, which exists.
        """
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
            this machine has not enough memory; if no two of several arms can be compared; or if an arm of
            the primary comparison has fewer seeds than the first look.
        MissingExtraError: if the recipe asks for errors in text, and their reader is not installed.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> plan = plan_study(load_recipe("photographs"), "photographs")
        >>> plan.primary.a, plan.primary.b, plan.recipe.looks
        ('single-level-healthy', 'two-level-healthy', (16, 32))
    """
    arms = planned_arms(recipe)
    if len({arm.recipe.model.channels for arm in arms}) > 1:
        what = "arms with model.channels 1 and 3 are evaluated on different images"
        raise FlatvqError(what, "give all arms the same model.channels")
    for arm in arms:
        require_memory(arm.recipe.model, training_bytes(arm.recipe))
        require_benchmarks(arm.recipe.evaluate, arm.recipe.data.crop)
        _require_match(arm, recipe.match)
    # Seed by seed, so that a study that is stopped early can compare all arms over the first seeds.
    trials = [
        _plan_trial(arm, seed) for seed in recipe.seeds for arm in arms if seed in recipe.seeds_of(arm.name)
    ]
    comparisons = comparisons_of(recipe, arms)
    _require_seeds(recipe, next((pair.arms for pair in comparisons if pair.primary), ()))
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
        raise FlatvqError(f"no arm is named {name!r}", suggestion(name, recipe.arms))
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


def _require_seeds(recipe: StudyRecipe, primary: Sequence[str]) -> None:
    """Check that the primary arms have the seeds of the first look: the level of the intervals needs them."""
    for name in primary:
        limit = recipe.arms[name].max_seeds
        if 0 < limit < recipe.looks[0]:
            what = f"arm {name!r} of the primary comparison has max_seeds {limit}, fewer than the first look"
            raise FlatvqError(
                what, f"set it to {recipe.looks[0]} or more, or name another primary comparison"
            )


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
    text = json.dumps(recipe.identifying(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
