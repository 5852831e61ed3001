"""The optimiser of a training."""

from __future__ import annotations

import torch
from torch import nn

from flatvq.recipe import TrainRecipe

__all__ = ["optimizer_for"]


def optimizer_for(model: nn.Module, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Make Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), fused: one pass over each weight.

    Args:
        model: whose weights are trained; on its device already.
        recipe: which optimiser, its first learning rate and weight decay.

    Example:
        >>> type(optimizer_for(nn.Linear(2, 2), TrainRecipe(optimizer="adamw"))).__name__
        'AdamW'
    """
    weights, rate = model.parameters(), recipe.learning_rate
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(weights, rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.Adam(weights, rate, fused=True)
