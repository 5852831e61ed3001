"""Estimates the wall time of a study from a few steps of each arm."""

from __future__ import annotations

import time

import torch

from flatvq.model import VQVAE, build_vqvae
from flatvq.processes import cores
from flatvq.recipe import TrialRecipe
from flatvq.study.devices import workers_for
from flatvq.study.plan import Plan
from flatvq.train.launch import ALONE
from flatvq.train.machine import Machine, keep_freed_memory, machine_for
from flatvq.train.objective import objective

__all__ = ["estimate_seconds"]

_STEPS = 4
# If a step with the whole batch takes longer than this many seconds, it is estimated from a single image.
_LONG_STEP = 5.0
# Per trial: start of the interpreter, decoding, initialization of codebooks and the final evaluation.
_OVERHEAD_SECONDS = 8.0


def estimate_seconds(plan: Plan, look: int) -> float:
    """Estimate the wall time of a study up to a look on this machine.

    Runs a few steps of each model on noise, with as many threads as a trial will get. The models run one
    after the other, so the estimate ignores that parallel trials share memory and caches.

    Args:
        plan: the study.
        look: the number of seeds of the look.

    Returns:
        Seconds.
    """
    keep_freed_memory()
    trials = plan.trials_at(look)
    workers = workers_for(plan.recipe, len(trials))
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // workers))
    seconds_of_model: dict[str, float] = {}  # arms that differ only in the codebook take as long
    total = 0.0
    try:
        for arm in plan.arms:
            recipe = arm.recipe
            model = f"{recipe.model} {recipe.train} {recipe.data.crop}"
            if model not in seconds_of_model:
                seconds_of_model[model] = _training_seconds(recipe)
            total += seconds_of_model[model] * len(plan.recipe.seeds_of(arm.name, look))
    finally:
        torch.set_num_threads(before)
    return (total + _OVERHEAD_SECONDS * len(trials)) / workers


def _training_seconds(recipe: TrialRecipe) -> float:
    """Estimate the seconds of all training steps of one trial."""
    with machine_for(recipe.train, ALONE) as machine:
        model = build_vqvae(recipe.model, recipe.codebook).to(machine.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        size, steps = recipe.train.batch_size, recipe.train.steps
        estimate = _step_seconds(model, recipe, machine, images=1, steps=2) * size
        if estimate > _LONG_STEP:
            return estimate * steps
        return _step_seconds(model, recipe, machine, images=size, steps=_STEPS) * steps


def _step_seconds(model: VQVAE, recipe: TrialRecipe, machine: Machine, images: int, steps: int) -> float:
    """Measure a training step, without the optimizer."""
    side = recipe.data.crop
    batch = torch.rand(images, recipe.model.channels, side, side, device=machine.device)
    batch = batch.to(memory_format=torch.channels_last)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        with machine.autocast():
            output = model(batch)
        loss = objective(output, batch, recipe.train).total
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    # The first step initializes the codebooks and warms up the caches.
    return min(times[1:])
