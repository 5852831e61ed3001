"""The optimizer of a training."""

from __future__ import annotations

import torch
from torch import nn

from flatvq.recipe import TrainRecipe

__all__ = ["optimizer_for"]


def optimizer_for(model: nn.Module, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Make Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019).

    Args:
        model: the model to train. It must already be on its device.
        recipe: the optimizer, the learning rate and the weight decay.

    Returns:
        The optimizer. It is fused: it reads each weight once per step.

    Example:
        >>> type(optimizer_for(nn.Linear(2, 2), TrainRecipe(optimizer="adamw"))).__name__
        'AdamW'
    """
    weights, rate = model.parameters(), recipe.learning_rate
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(weights, rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.Adam(weights, rate, fused=True)
