"""Estimates the wall time of a study from a few steps of each arm."""

from __future__ import annotations

import time

import torch

from flatvq.model import build_vqvae
from flatvq.processes import cores
from flatvq.recipe import TrialRecipe
from flatvq.study.devices import workers_for
from flatvq.study.plan import Plan
from flatvq.train.launch import ALONE
from flatvq.train.machine import keep_freed_memory, machine_for
from flatvq.train.objective import objective

__all__ = ["estimate_seconds"]

_STEPS = 4
# Per trial: start of the interpreter, decoding, initialization of codebooks and the final evaluation.
_OVERHEAD_SECONDS = 8.0


def estimate_seconds(plan: Plan, look: int) -> float:
    """Estimate the wall time of a study up to a look on this machine.

    Runs a few steps of each arm on noise, with as many threads as a trial will get. The arms run one after
    the other, so the estimate ignores that parallel trials share memory and caches.

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
    try:
        seconds = [
            _training_seconds(arm.recipe) * len(plan.recipe.seeds_of(arm.name, look)) for arm in plan.arms
        ]
    finally:
        torch.set_num_threads(before)
    return (sum(seconds) + _OVERHEAD_SECONDS * len(trials)) / workers


def _training_seconds(recipe: TrialRecipe) -> float:
    """Estimate the seconds of all training steps of one trial."""
    with machine_for(recipe.train, ALONE) as machine:
        model = build_vqvae(recipe.model, recipe.codebook).to(machine.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        crop = recipe.data.crop
        images = torch.rand(recipe.train.batch_size, recipe.model.channels, crop, crop, device=machine.device)
        images = images.to(memory_format=torch.channels_last)
        times = []
        for _ in range(_STEPS):
            start = time.perf_counter()
            with machine.autocast():
                output = model(images)
            objective(output, images, recipe.train).total.backward()  # type: ignore[no-untyped-call]
            times.append(time.perf_counter() - start)
    # The first step initializes the codebooks and warms up the caches.
    return min(times[1:]) * recipe.train.steps
