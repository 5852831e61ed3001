"""The one place where losses are weighted and added."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.model import VQVAEOutput
from flatvq.recipe import TrainRecipe
from flatvq.shapes import require_axes, require_floating

__all__ = ["Losses", "learning_rate", "objective"]

# Reconstruction error is weighed on the [-1, 1] scale of the reference's inputs, twice as wide as [0, 1].
_SCALE = 2.0**2


@dataclass(frozen=True)
class Losses:
    """The total and its unweighted parts, scalars."""

    total: Tensor
    """What is minimised."""
    reconstruction: Tensor
    """Mean squared error on the [0, 1] scale."""
    commitment: Tensor
    """Summed over levels."""
    codebook: Tensor
    """Summed over levels."""
    entropy: Tensor
    """Summed over levels."""


def objective(output: VQVAEOutput, images: Tensor, recipe: TrainRecipe) -> Losses:
    """Add reconstruction, commitment, codebook (van den Oord et al. 2017, eq. 3) and entropy loss.

    Args:
        output: of the model.
        images: its input, [B, C, H, W] in [0, 1].
        recipe: the weights.

    Returns:
        MSE x 4 (the [-1, 1] scale) plus the weighted sum of the others, in float32 or the model's double
        precision. An empty batch has losses of zero.

    Raises:
        FlatvqError: if the images are not those of the output: of another shape, or not floating-point.
    """
    require_axes(images, "images", *output.reconstruction.shape)
    require_floating(images, "images", "convert 8-bit images with images.float() / 255")
    # In half precision the squares of small errors would be lost.
    precision = torch.promote_types(output.reconstruction.dtype, torch.float32)
    reconstructed, images = output.reconstruction.to(precision), images.to(precision)
    # The mean over no pixels would be NaN; their sum is zero, with a graph.
    reconstruction = F.mse_loss(reconstructed, images) if images.numel() else reconstructed.sum()
    commitment = sum([level.commitment_loss for level in output.levels], reconstruction.new_zeros(()))
    codebook = sum([level.codebook_loss for level in output.levels], reconstruction.new_zeros(()))
    entropy = sum([level.entropy_loss for level in output.levels], reconstruction.new_zeros(()))
    total = (
        _SCALE * reconstruction
        + recipe.commitment_weight * commitment
        + recipe.codebook_weight * codebook
        + recipe.entropy_weight * entropy
    )
    return Losses(total, reconstruction, commitment, codebook, entropy)


def learning_rate(step: int, recipe: TrainRecipe) -> float:
    """Return the learning rate of a step, counted from 0: a pure function, so that nothing has to be resumed.

    Example:
        >>> recipe = TrainRecipe(steps=100, learning_rate=1.0, warmup_steps=10, schedule="cosine")
        >>> [round(learning_rate(step, recipe), 3) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
