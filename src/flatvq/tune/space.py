"""The search space, and the recipe that results from a choice of values. All recipes have the same bits.

The grids do not change, so the bits fix K of one level. In a hierarchy, bits can move between levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2, prod
from typing import TYPE_CHECKING, Any

from flatvq.errors import FlatvqError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import ModelRecipe, ParameterRange, TrialRecipe, parse, set_key

if TYPE_CHECKING:
    import optuna

__all__ = ["check_space", "space_of", "suggest_values", "values_of", "with_values"]

CODE_DIM, UPPER_BITS = "code_dim", "upper_bits"


def space_of(recipe: TrialRecipe) -> dict[str, ParameterRange]:
    """Return the default search space of a recipe: hyper-parameters of the codebook, and the learning rate.

    Example:
        >>> "upper_bits" in space_of(TrialRecipe()), space_of(TrialRecipe())["code_dim"].choices[:3]
        (False, (2, 4, 8))

        Each level of a hierarchy has its own dimension and commitment weight:

        >>> from flatvq.recipe import LevelRecipe
        >>> levels = (LevelRecipe(), LevelRecipe(downsample=2))
        >>> list(space_of(TrialRecipe(model=ModelRecipe(levels=levels))))[:4]
        ['model.levels.0.code_dim', 'model.levels.1.code_dim', 'model.levels.0.commitment_weight', \
'model.levels.1.commitment_weight']
    """
    rate = recipe.train.learning_rate
    dims = ParameterRange(choices=(2, 4, 8, 16, 32, 64, 128))
    weights = ParameterRange(low=0.02, high=2.0, log=True)
    upper = len(recipe.model.levels) > 1
    levels = [number for number, level in enumerate(recipe.model.levels) if level.has_codebook]
    space = {
        **({f"model.levels.{n}.code_dim": dims for n in levels} if upper else {CODE_DIM: dims}),
        **(
            {f"model.levels.{n}.commitment_weight": weights for n in levels}
            if upper
            else {"train.commitment_weight": weights}
        ),
        "train.learning_rate": ParameterRange(low=rate / 4, high=rate * 4, log=True),
        "codebook.init.kind": ParameterRange(choices=("data", "kmeans")),
        "codebook.replacement.every": ParameterRange(low=5, high=200, log=True, integer=True),
        "codebook.replacement.fraction": ParameterRange(low=0.02, high=1.0, log=True),
        "codebook.replacement.stop": ParameterRange(low=0.5, high=1.0),
        "codebook.update.decay": ParameterRange(low=0.9, high=0.995),
    }
    if upper:
        space[UPPER_BITS] = ParameterRange(low=4, high=12, integer=True)
    return space


def check_space(recipe: TrialRecipe, space: Mapping[str, ParameterRange]) -> None:
    """Check the keys and the ends of the ranges of a space, before anything is trained.

    Args:
        recipe: the incumbent.
        space: the hyper-parameters and their ranges.

    Raises:
        FlatvqError: if a recipe has no such key, or a value is not valid.
    """
    for name, span in space.items():
        low, high = (round(span.low), round(span.high)) if span.integer else (span.low, span.high)
        if name == UPPER_BITS:
            _require_integers(span)
            ends = span.choices  # the limits of a range may leave no bits for the bottom; such trials fail
        else:
            ends = span.choices or (low, high)
        for value in ends:
            with_values(recipe, {name: value})


def _require_integers(span: ParameterRange) -> None:
    for value in span.choices or (() if span.integer else (span.low,)):
        if type(value) is not int or value < 1:
            what = f"tune.space.{UPPER_BITS} has the value {value!r}, which is not a number of bits"
            raise FlatvqError(what, "give positive integers as choices, or a range with integer: true")


def suggest_values(trial: optuna.trial.Trial, space: Mapping[str, ParameterRange]) -> dict[str, Any]:
    """Let the sampler of a trial choose values.

    Args:
        trial: the trial in Optuna.
        space: the hyper-parameters and their ranges.

    Returns:
        A value for each hyper-parameter of the space.
    """
    return {name: _suggest(trial, name, span) for name, span in space.items()}


def _suggest(trial: optuna.trial.Trial, name: str, span: ParameterRange) -> Any:
    if span.choices:
        return trial.suggest_categorical(name, span.choices)
    if span.integer:
        return trial.suggest_int(name, round(span.low), round(span.high), log=span.log)
    return trial.suggest_float(name, span.low, span.high, log=span.log)


def with_values(recipe: TrialRecipe, values: Mapping[str, Any]) -> TrialRecipe:
    """Return a recipe with other values of hyper-parameters and the same bits.

    Args:
        recipe: the incumbent.
        values: by key of the space.

    Returns:
        The recipe of the candidate. If `values` has `upper_bits`, the codebook size of the bottom level is
        chosen to keep the bits, rounded to an integer.

    Raises:
        FlatvqError: if a key or value is not valid, or no codebook of the bottom level keeps the bits.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> levels = [LevelRecipe(downsample=factor, codebook_size=256) for factor in (4, 2)]
        >>> recipe = TrialRecipe(model=ModelRecipe(levels=tuple(levels)))
        >>> candidate = with_values(recipe, {"upper_bits": 4, "code_dim": 8})
        >>> [(level.codebook_size, level.code_dim) for level in candidate.model.levels]
        [(512, 8), (16, 8)]
    """
    tree = recipe.model_dump()
    for name, value in values.items():
        if name == CODE_DIM:
            for level in (n for n, each in enumerate(recipe.model.levels) if each.has_codebook):
                tree = set_key(tree, f"model.levels.{level}.code_dim", value)
        elif name != UPPER_BITS:
            tree = set_key(tree, name, value)
    if UPPER_BITS in values:
        for level, size in enumerate(_codebook_sizes(recipe.model, recipe.data.crop, values[UPPER_BITS])):
            tree = set_key(tree, f"model.levels.{level}.codebook_size", size)
    return parse(TrialRecipe, tree, "the space of `flatvq tune`")


def values_of(recipe: TrialRecipe, space: Mapping[str, ParameterRange]) -> dict[str, Any]:
    """Return the values of a recipe for the keys of a space, without values that lie outside of its ranges.

    Args:
        recipe: the recipe.
        space: the hyper-parameters and their ranges.

    Returns:
        Values that `with_values` can put into the same recipe without a change of the training. If a level
        has no commitment weight, its value is `train.commitment_weight`.

    Example:
        >>> space = {"code_dim": ParameterRange(choices=(64,)), "train.steps": ParameterRange(low=1, high=9)}
        >>> values_of(TrialRecipe(), space)
        {'code_dim': 64}
    """
    levels = recipe.model.levels
    special: dict[str, Any] = {
        CODE_DIM: levels[0].code_dim,
        UPPER_BITS: round(log2(levels[-1].codebook_size)),
    }
    for number, level in enumerate(levels):
        if level.commitment_weight is None:
            special[f"model.levels.{number}.commitment_weight"] = recipe.train.commitment_weight
    tree = recipe.model_dump()
    own = {name: special.get(name) or _value_at(tree, name) for name in space}
    return {name: value for name, value in own.items() if _contains(space[name], value)}


def _value_at(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if isinstance(tree, list | tuple):
            tree = tree[int(part)] if part.isdigit() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _contains(span: ParameterRange, value: Any) -> bool:
    if span.choices:
        return value in span.choices
    return isinstance(value, int | float) and span.low <= value <= span.high


def _codebook_sizes(model: ModelRecipe, crop: int, upper_bits: int) -> list[int]:
    """Return codebook sizes: 2^upper_bits on upper levels; at the bottom, the size that keeps the bits."""
    levels = capacity_of(model, crop).levels
    cells = [prod(level.grid) * level.indices_per_cell for level in levels]
    bits = sum(count * log2(level.codebook_size) for count, level in zip(cells, levels, strict=True))
    bottom_bits = bits - upper_bits * sum(cells[1:])
    bottom = round(2 ** min(bottom_bits / cells[0], 20))
    if bottom < 2:
        raise FlatvqError(
            f"{upper_bits} bits per upper code leave none for the bottom level", "lower tune.space.upper_bits"
        )
    return [bottom, *[2**upper_bits] * (len(cells) - 1)]
