"""Decides whether a training is compiled: if it is long enough to save more time than compiling takes.

Compiled code rounds differently from eager code. So that a resumed run makes the same decision, the rule uses
only the recipe and the machine, and measures no time.
"""

from __future__ import annotations

import os
import shutil

import torch

from flatvq.errors import FlatvqError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import TrialRecipe
from flatvq.train.machine import Machine, cpu_has

__all__ = ["compiles", "repays"]

# Measured values (docs/performance.md).
# The share of a step that compiling saves, with bfloat16 and channels last.
_SAVED_SHARE = 0.03
# The same on processors with AMX, which speeds up the convolutions but not the rest.
_SAVED_SHARE_AMX = 0.12
_COMPILE_SECONDS = 20.0
# Multiply-adds per second and core, of forward and backward passes.
_MULTIPLY_ADDS_PER_SECOND = 1.6e11


def compiles(recipe: TrialRecipe, machine: Machine) -> bool:
    """Decide whether to compile a training.

    Args:
        recipe: the trial. `train.compile` is `never`, `always` or `auto`.
        machine: the machine on which it runs.

    Returns:
        Whether to compile. For `auto`: True on a CPU, in one process, if there is a C++ compiler and the
        training is long enough.

    Raises:
        FlatvqError: if `train.compile` is `always`, on a CPU without a C++ compiler.
    """
    setting, on_cpu = recipe.train.compile, machine.device.type == "cpu"
    if setting == "never":
        return False
    can_compile = not on_cpu or _has_compiler()
    if setting == "always":
        if not can_compile:
            what = "train.compile is 'always', but there is no C++ compiler"
            raise FlatvqError(what, "install g++, or set train.compile=auto")
        return True
    amx = machine.bfloat16 and cpu_has("amx_bf16")
    saved = _SAVED_SHARE_AMX if amx else _SAVED_SHARE
    return (
        on_cpu and can_compile and machine.world_size == 1 and repays(recipe, torch.get_num_threads(), saved)
    )


def repays(recipe: TrialRecipe, threads: int, saved: float) -> bool:
    """Return whether compiling saves at least twice the time that it takes.

    Args:
        recipe: the trial.
        threads: the number of threads of the training.
        saved: the share of a step that compiled code saves.

    Example:
        >>> from flatvq.recipe import TrainRecipe
        >>> recipes = [TrialRecipe(train=TrainRecipe(steps=steps)) for steps in (1000, 100_000)]
        >>> [repays(recipe, threads=2, saved=0.03) for recipe in recipes]
        [False, True]
    """
    # The backward pass takes twice the multiply-adds of the forward pass.
    per_image = 3 * capacity_of(recipe.model, recipe.data.crop).network_multiply_adds
    images = recipe.train.steps * recipe.train.batch_size
    seconds = images * per_image / (_MULTIPLY_ADDS_PER_SECOND * threads)
    return saved * seconds > 2 * _COMPILE_SECONDS


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
