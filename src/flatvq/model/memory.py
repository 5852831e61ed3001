"""The minimum memory of a model and its training, computed from the recipe before anything is allocated."""

from __future__ import annotations

import os
from math import prod

from flatvq.errors import FlatvqError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import ModelRecipe, TrialRecipe
from flatvq.translation import in_bytes

__all__ = ["model_bytes", "require_memory", "training_bytes", "weight_bytes"]

_FLOAT = 4
# For each code: its moving count, the step of its last replacement, and its number of uses in an evaluation.
_STATE_PER_CODE = 4 + 8 + 8
# For each value of a training batch: uint8, float32, its reconstruction, and the gradient of that.
_BYTES_PER_VALUE = 1 + 4 + 4 + 4


def model_bytes(model: ModelRecipe) -> int:
    """Return the size of a model in bytes, with the state of its codebooks.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> sizes = (1_000, 1_000_000)
        >>> [model_bytes(ModelRecipe(levels=(LevelRecipe(codebook_size=size),))) for size in sizes]
        [3582764, 279306764]
    """
    return weight_bytes(model) + _STATE_PER_CODE * sum(
        prod(level.index_shape) * level.codebook_size for level in model.levels
    )


def weight_bytes(model: ModelRecipe) -> int:
    """Return the size of the weights and code vectors of a model in bytes, in float32.

    Example:
        >>> weight_bytes(ModelRecipe()) < model_bytes(ModelRecipe())
        True
    """
    capacity = capacity_of(model, prod(level.downsample for level in model.levels))
    return _FLOAT * capacity.parameters


def training_bytes(recipe: TrialRecipe, processes: int = 1) -> int:
    """Return the minimum memory of a training in one process, in bytes, without the model.

    It counts the share of a batch and the vectors from which codebooks are initialized. The state of the
    optimizer and the activations for the backward pass are not counted.

    Args:
        recipe: the trial.
        processes: the number of processes that share a batch.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> training_bytes(load_recipe("photographs").trial("single-level-naive", 0))
        1277952
    """
    images = recipe.train.batch_size // processes
    batch = _BYTES_PER_VALUE * recipe.model.channels * images * recipe.data.crop**2
    init = recipe.codebook.init
    if init.kind == "random":
        return batch
    gathered = 0
    built_levels = capacity_of(recipe.model, recipe.data.crop).levels
    for level, built in zip(recipe.model.levels, built_levels, strict=True):
        if level.has_codebook:
            available = recipe.train.steps * images * prod(built.grid)
            vectors = min(init.vectors_per_code * level.codebook_size, available)
            gathered += vectors * level.codebook_parameters // level.codebook_size
    return batch + _FLOAT * gathered


def require_memory(model: ModelRecipe, training: int = 0) -> None:
    """Check that a model and its training fit into the memory of this machine.

    Windows is not checked.

    Args:
        model: the recipe.
        training: `training_bytes` of its training.

    Raises:
        FlatvqError: if they do not fit. The message states both sizes.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    model_keys = "codebook_size, code_dim or width"
    training_keys = "train.batch_size, data.crop or codebook.init.vectors_per_code"
    needed = model_bytes(model)
    for what, size, keys in (("model", needed, model_keys), ("training", needed + training, training_keys)):
        if size > installed:
            sizes = f"{in_bytes(size)} of memory or more, and this machine has {in_bytes(installed)}"
            raise FlatvqError(f"the {what} takes {sizes}", f"lower {keys}")
