"""The training loss: the weights of its parts, and the learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.model import VQVAEOutput
from flatvq.recipe import TrainRecipe
from flatvq.shapes import require_axes, require_floating

__all__ = ["RECONSTRUCTION_WEIGHT", "Losses", "learning_rate", "objective"]

RECONSTRUCTION_WEIGHT = 2.0**2
"""Weight of the mean squared error on the [0, 1] scale.

The reference computes the error on inputs in [-1, 1]. This range is twice as wide, so the squared error is
four times as large.
"""


@dataclass(frozen=True)
class Losses:
    """The total loss and its unweighted parts, all scalars."""

    total: Tensor
    """The weighted sum, which training minimizes."""
    reconstruction: Tensor
    """Mean squared error on the [0, 1] scale."""
    commitment: Tensor
    """Summed over levels."""
    codebook: Tensor
    """Summed over levels."""
    entropy: Tensor
    """Summed over levels."""


def objective(
    output: VQVAEOutput,
    images: Tensor,
    recipe: TrainRecipe,
    commitment_weights: Sequence[float | None] = (),
) -> Losses:
    """Compute the loss of a VQ-VAE (van den Oord et al. 2017, eq. 3), with an entropy loss, and its parts.

    Args:
        output: the output of the model.
        images: the input of the model, [B, C, H, W] in [0, 1].
        recipe: the weights of commitment and codebook loss.
        commitment_weights: for each level, a weight in place of `recipe.commitment_weight`, or None. Empty:
            the weight of the recipe for all levels.

    Returns:
        The total, 4 x MSE (`RECONSTRUCTION_WEIGHT`) + the weighted sum of the other losses, and its parts, in
        float32 or higher precision. All losses of an empty batch are zero.

    Raises:
        FlatvqError: if the images have another shape than the reconstruction, or are not floating-point.
    """
    require_axes(images, "images", *output.reconstruction.shape)
    require_floating(images, "images", "convert 8-bit images with images.float() / 255")
    # In half precision, squares of small errors would underflow.
    precision = torch.promote_types(output.reconstruction.dtype, torch.float32)
    reconstructed, images = output.reconstruction.to(precision), images.to(precision)
    # The mean over no pixels is NaN. Their sum is zero and has a gradient.
    reconstruction = F.mse_loss(reconstructed, images) if images.numel() else reconstructed.sum()
    commitment = sum([level.commitment_loss for level in output.levels], reconstruction.new_zeros(()))
    codebook = sum([level.codebook_loss for level in output.levels], reconstruction.new_zeros(()))
    entropy = sum([level.entropy_loss for level in output.levels], reconstruction.new_zeros(()))
    total = (
        RECONSTRUCTION_WEIGHT * reconstruction
        + recipe.commitment_weight * commitment
        + sum(
            (weight - recipe.commitment_weight) * level.commitment_loss
            for weight, level in zip(commitment_weights, output.levels, strict=False)
            if weight is not None
        )
        + recipe.codebook_weight * codebook
        + recipe.entropy_weight * entropy
    )
    return Losses(total, reconstruction, commitment, codebook, entropy)


def learning_rate(step: int, recipe: TrainRecipe) -> float:
    """Return the learning rate of a step.

    It depends only on the arguments, so that a resumed training needs no scheduler state.

    Args:
        step: the number of the step, from 0.
        recipe: the learning rate, schedule, warm-up and number of steps.

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
