"""How many trials run at a time, and which GPU each of them gets."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flatvq.processes import cores
from flatvq.recipe import StudyRecipe

__all__ = ["gpus_for", "least_busy", "workers_for"]


def workers_for(recipe: StudyRecipe, trials: int) -> int:
    """Choose how many trials run at a time: the recipe's number, or one per core on a CPU, one per GPU.

    Args:
        recipe: its `workers` and `train.device`.
        trials: how many there are.
    """
    device = recipe.train.device
    automatic = len(gpus_for(device)) or (1 if device == "mps" else cores())
    return min(recipe.workers or automatic, trials)


def gpus_for(device: str) -> list[str]:
    """Name the GPUs that trials may use, as CUDA_VISIBLE_DEVICES names them; none for other devices."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def least_busy(gpus: Sequence[str], taken: Sequence[str | None]) -> str | None:
    """Choose the GPU that the fewest trials have; None if there is none.

    Example:
        >>> least_busy(["2", "5"], ["2", "5", "2"]), least_busy([], [None])
        ('5', None)
    """
    return min(gpus, key=list(taken).count, default=None)
