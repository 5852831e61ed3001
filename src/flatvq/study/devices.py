"""The number of trials that run at a time, and the GPU of each."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flatvq.processes import cores
from flatvq.recipe import StudyRecipe

__all__ = ["gpus_for", "least_busy", "workers_for"]


def workers_for(recipe: StudyRecipe, trials: int) -> int:
    """Choose how many trials run at a time.

    Args:
        recipe: the study. Its `workers` is the number, if set; `train.device` decides otherwise.
        trials: the number of trials.

    Returns:
        The recipe's number, or one per GPU, or one per core on a CPU; at most `trials`.
    """
    device = recipe.train.device
    automatic = len(gpus_for(device)) or (1 if device == "mps" else cores())
    return min(recipe.workers or automatic, trials)


def gpus_for(device: str) -> list[str]:
    """List the GPUs that trials may use.

    Args:
        device: `train.device` of the recipe.

    Returns:
        Their names as in CUDA_VISIBLE_DEVICES; empty for other devices.
    """
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def least_busy(gpus: Sequence[str], in_use: Sequence[str | None]) -> str | None:
    """Choose the GPU that the fewest trials use.

    Args:
        gpus: the GPUs to choose from.
        in_use: the GPU of each running trial.

    Returns:
        The GPU; None if there is none.

    Example:
        >>> least_busy(["2", "5"], ["2", "5", "2"]), least_busy([], [None])
        ('5', None)
    """
    return min(gpus, key=list(in_use).count, default=None)
