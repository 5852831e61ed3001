"""What a search may change, and the recipe that a choice of values makes: always of the same bits.

The grids stay as they are, so one level's K follows from the bits; a hierarchy may shift bits between its
levels.
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

__all__ = ["changed", "check_space", "space_of", "suggested", "values_of"]

CODE_DIM, UPPER_BITS = "code_dim", "upper_bits"


def space_of(recipe: TrialRecipe) -> dict[str, ParameterRange]:
    """Return the default search space around a recipe: the codebook's hyper-parameters and the learning rate.

    Example:
        >>> "upper_bits" in space_of(TrialRecipe()), space_of(TrialRecipe())["code_dim"].choices[:3]
        (False, (2, 4, 8))
    """
    rate = recipe.train.learning_rate
    space = {
        CODE_DIM: ParameterRange(choices=(2, 4, 8, 16, 32, 64, 128)),
        "train.learning_rate": ParameterRange(low=rate / 4, high=rate * 4, log=True),
        "train.commitment_weight": ParameterRange(low=0.02, high=2.0, log=True),
        "codebook.init.kind": ParameterRange(choices=("data", "kmeans")),
        "codebook.replacement.every": ParameterRange(low=5, high=200, log=True, integer=True),
        "codebook.replacement.fraction": ParameterRange(low=0.02, high=1.0, log=True),
        "codebook.replacement.stop": ParameterRange(low=0.5, high=1.0),
        "codebook.update.decay": ParameterRange(low=0.9, high=0.995),
    }
    if len(recipe.model.levels) > 1:
        space[UPPER_BITS] = ParameterRange(low=2, high=12, integer=True)
    return space


def check_space(recipe: TrialRecipe, space: Mapping[str, ParameterRange]) -> None:
    """Refuse a space with a key or a value that no recipe has, before anything is trained.

    Args:
        recipe: the incumbent.
        space: its hyper-parameters.

    Raises:
        FlatvqError: naming the key, and the value or the nearest known key.
    """
    for name, knob in space.items():
        if name not in (CODE_DIM, UPPER_BITS):
            low, high = (round(knob.low), round(knob.high)) if knob.integer else (knob.low, knob.high)
            ends = knob.choices or (low, high)
            for value in ends:
                changed(recipe, {name: value})


def suggested(trial: optuna.trial.Trial, space: Mapping[str, ParameterRange]) -> dict[str, Any]:
    """Have a sampler choose values."""
    return {name: _suggested(trial, name, knob) for name, knob in space.items()}


def _suggested(trial: optuna.trial.Trial, name: str, knob: ParameterRange) -> Any:
    if knob.choices:
        return trial.suggest_categorical(name, knob.choices)
    if knob.integer:
        return trial.suggest_int(name, round(knob.low), round(knob.high), log=knob.log)
    return trial.suggest_float(name, knob.low, knob.high, log=knob.log)


def changed(recipe: TrialRecipe, values: Mapping[str, Any]) -> TrialRecipe:
    """Put values into a recipe, and keep its bits.

    Args:
        recipe: the incumbent.
        values: by key of the space.

    Returns:
        The recipe of the candidate.

    Raises:
        FlatvqError: if a key or value is wrong, or no codebook of the bottom keeps the bits.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> levels = [LevelRecipe(downsample=factor, codebook_size=256) for factor in (4, 2)]
        >>> recipe = TrialRecipe(model=ModelRecipe(levels=tuple(levels)))
        >>> candidate = changed(recipe, {"upper_bits": 4, "code_dim": 8})
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
        for level, size in enumerate(_sizes(recipe.model, recipe.data.crop, values[UPPER_BITS])):
            tree = set_key(tree, f"model.levels.{level}.codebook_size", size)
    return parse(TrialRecipe, tree, "the space of `flatvq tune`")


def values_of(recipe: TrialRecipe, space: Mapping[str, ParameterRange]) -> dict[str, Any]:
    """Read a recipe's own values, as far as a space holds them: what `changed` would have to put in.

    Example:
        >>> space = {"code_dim": ParameterRange(choices=(64,)), "train.steps": ParameterRange(low=1, high=9)}
        >>> values_of(TrialRecipe(), space)
        {'code_dim': 64}
    """
    levels = recipe.model.levels
    special = {CODE_DIM: levels[0].code_dim, UPPER_BITS: round(log2(levels[-1].codebook_size))}
    tree = recipe.model_dump()
    own = {name: special.get(name) or _at(tree, name) for name in space}
    return {name: value for name, value in own.items() if _holds(space[name], value)}


def _at(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if isinstance(tree, list | tuple):
            tree = tree[int(part)] if part.isdigit() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _holds(knob: ParameterRange, value: Any) -> bool:
    if knob.choices:
        return value in knob.choices
    return isinstance(value, int | float) and knob.low <= value <= knob.high


def _sizes(model: ModelRecipe, crop: int, upper_bits: int) -> list[int]:
    """Give every upper level 2^bits codes, and the bottom as many as keep the bits of an image."""
    levels = capacity_of(model, crop).levels
    cells = [prod(level.grid) * level.indices_per_cell for level in levels]
    whole = sum(count * log2(level.codebook_size) for count, level in zip(cells, levels, strict=True))
    left = whole - upper_bits * sum(cells[1:])
    bottom = round(2 ** min(left / cells[0], 20))
    if bottom < 2:
        raise FlatvqError(f"{upper_bits} bits a code above leave none for the bottom", "lower `upper_bits`")
    return [bottom, *[2**upper_bits] * (len(cells) - 1)]
