"""Whether a training is compiled: where it is long enough to repay that, by a rule that was measured.

Compiled code rounds otherwise than eager code. So the rule looks at recipe and machine, and
not at a clock: a resumed run has to come to the same answer.
"""

from __future__ import annotations

import os
import shutil

import torch

from flatvq.errors import FlatvqError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import TrialRecipe
from flatvq.train.machine import Machine

__all__ = ["compiles", "repays"]

# Measured (docs/performance.md): the share of a step that compiling saves beside bfloat16 and channels last,
# the seconds that it takes, and the multiply-adds, forwards and backwards, that a core does in a second.
_SAVED, _SECONDS, _RATE = 0.03, 20.0, 1.6e11


def compiles(recipe: TrialRecipe, machine: Machine) -> bool:
    """Decide, by `train.compile`.

    Args:
        recipe: the trial.
        machine: where it will run.

    Returns:
        For `auto`: True on a CPU, in one process, where there is a C++ compiler and the run repays it.

    Raises:
        FlatvqError: if compiling is asked for on a CPU without a C++ compiler.
    """
    asked, on_cpu = recipe.train.compile, machine.device.type == "cpu"
    if asked == "never":
        return False
    able = not on_cpu or _has_compiler()
    if asked == "always":
        if not able:
            what = "train.compile is 'always', but there is no C++ compiler"
            raise FlatvqError(what, "install g++, or set train.compile=auto")
        return True
    return on_cpu and able and machine.world_size == 1 and repays(recipe, torch.get_num_threads())


def repays(recipe: TrialRecipe, threads: int) -> bool:
    """Tell whether compiling saves twice the time that it takes.

    Example:
        >>> from flatvq.recipe import ModelRecipe, TrainRecipe
        >>> [repays(TrialRecipe(train=TrainRecipe(steps=steps)), threads=2) for steps in (1000, 100_000)]
        [False, True]
    """
    # The backward pass takes twice the multiply-adds of the forward pass.
    work = 3 * capacity_of(recipe.model, recipe.data.crop).multiply_adds
    seconds = recipe.train.steps * recipe.train.batch_size * work / (_RATE * threads)
    return _SAVED * seconds > 2 * _SECONDS


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
