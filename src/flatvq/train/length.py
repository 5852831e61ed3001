"""Notices about settings that take effect only in a longer training."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from flatvq.recipe import TrialRecipe
from flatvq.train.initialization import steps_to_initialize

__all__ = ["initialization_notices", "length_notices"]


def length_notices(recipe: TrialRecipe) -> list[str]:
    """Return a line for each setting that has no full effect because the training is too short.

    Short trainings are common while a recipe is tried out, so these are notices and not errors.

    Args:
        recipe: the trial.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> recipe = load_recipe("photographs", ["train.steps=60"]).trial("two-level-naive", 0)
        >>> length_notices(recipe)
        []
    """
    return [*initialization_notices(recipe), *_long_warm_up(recipe), *_late_replacements(recipe)]


def initialization_notices(recipe: TrialRecipe) -> list[str]:
    """Return a line for each codebook that is not initialized when the training ends.

    The first codes of such a codebook are vectors of the last batch.

    Args:
        recipe: the trial.
    """
    total = recipe.train.steps
    return [
        f"training ends before the codebook of level {level} is initialized, which takes {steps:,} steps: "
        f"raise train.steps ({total:,}), or lower codebook.init.vectors_per_code or codebook.init.start"
        for level, steps in enumerate(steps_to_initialize(recipe))
        if steps > total
    ]


def _long_warm_up(recipe: TrialRecipe) -> Iterator[str]:
    """State that the learning rate never reaches its peak."""
    total, warm_up = recipe.train.steps, recipe.train.warmup_steps
    if warm_up > total:
        yield (
            f"training ends during the warm-up of the learning rate: raise train.steps ({total:,}), or lower "
            f"train.warmup_steps ({warm_up:,})"
        )


def _late_replacements(recipe: TrialRecipe) -> Iterator[str]:
    """Name each codebook whose dead codes are never replaced although the recipe asks for it."""
    replacement, total = recipe.codebook.replacement, recipe.train.steps
    if replacement is None:
        return
    first = replacement.every * max(1, ceil(replacement.start / replacement.every))
    for number, level in enumerate(recipe.model.levels):
        # A level counts its steps from its own start.
        stop = round(replacement.stop * (total - level.start))
        if level.has_codebook and first >= stop:
            yield (
                f"dead codes of level {number} are never replaced: the first replacement would be at step "
                f"{first:,} of the level, and replacement stops at step {stop:,}. Raise train.steps "
                f"({total:,}), or lower codebook.replacement.every ({replacement.every:,})"
            )
