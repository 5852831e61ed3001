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
from flatvq.train.machine import Machine, cpu_has

__all__ = ["compiles", "repays"]

# Measured (docs/performance.md): the share of a step that compiling saves beside bfloat16 and channels last,
# and where AMX makes the convolutions fast; the seconds that it takes; and the multiply-adds, forwards and
# backwards, that a core does in a second.
_SAVED, _SAVED_BESIDE_AMX, _SECONDS, _RATE = 0.03, 0.12, 20.0, 1.6e11


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
    amx = machine.bfloat16 and cpu_has("amx_bf16")
    saved = _SAVED_BESIDE_AMX if amx else _SAVED
    return on_cpu and able and machine.world_size == 1 and repays(recipe, torch.get_num_threads(), saved)


def repays(recipe: TrialRecipe, threads: int, saved: float) -> bool:
    """Tell whether compiling saves twice the time that it takes.

    Args:
        recipe: the trial.
        threads: that it computes with.
        saved: the share of a step that compiled code saves.

    Example:
        >>> from flatvq.recipe import TrainRecipe
        >>> recipes = [TrialRecipe(train=TrainRecipe(steps=steps)) for steps in (1000, 100_000)]
        >>> [repays(recipe, threads=2, saved=0.03) for recipe in recipes]
        [False, True]
    """
    # The backward pass takes twice the multiply-adds of the forward pass.
    work = 3 * capacity_of(recipe.model, recipe.data.crop).multiply_adds
    seconds = recipe.train.steps * recipe.train.batch_size * work / (_RATE * threads)
    return saved * seconds > 2 * _SECONDS


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
