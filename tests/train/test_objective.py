"""The weighted loss, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import pytest
import torch

from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.train.objective import learning_rate, objective


def test_the_total_is_the_weighted_sum_worked_by_hand() -> None:
    level = LevelRecipe(codebook_size=8, code_dim=4)
    top = LevelRecipe(downsample=2, codebook_size=8, code_dim=4)
    model = build_vqvae(ModelRecipe(levels=(level, top), width=8, residual_width=4), CodebookRecipe())
    images = torch.rand(2, 3, 16, 16)
    output = model(images)
    losses = objective(output, images, TrainRecipe(commitment_weight=0.5, codebook_weight=2.0))
    # On the [-1, 1] scale an error is twice as large, and its square four times.
    scaled = ((2 * output.reconstruction - 1) - (2 * images - 1)).square().mean()
    commitment = sum(level.commitment_loss for level in output.levels)
    codebook = sum(level.codebook_loss for level in output.levels)
    torch.testing.assert_close(losses.total, scaled + 0.5 * commitment + 2.0 * codebook)
    torch.testing.assert_close(losses.reconstruction, scaled / 4)


def test_a_level_can_have_a_commitment_weight_of_its_own() -> None:
    level = LevelRecipe(codebook_size=8, code_dim=4)
    top = LevelRecipe(downsample=2, codebook_size=8, code_dim=4)
    model = build_vqvae(ModelRecipe(levels=(level, top), width=8, residual_width=4), CodebookRecipe())
    images = torch.rand(2, 3, 16, 16)
    output = model(images)
    first, second = (each.commitment_loss for each in output.levels)
    for own, expected in (([None, 2.0], 0.5 * first + 2.0 * second), ([0.0, None], 0.5 * second)):
        losses = objective(output, images, TrainRecipe(commitment_weight=0.5), own)
        others = losses.total - 4 * losses.reconstruction - losses.codebook
        torch.testing.assert_close(others, expected)
        torch.testing.assert_close(losses.commitment, first + second)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_matches_torch_schedulers(schedule: str) -> None:
    recipe = TrainRecipe(steps=50, learning_rate=0.1, warmup_steps=5, schedule=schedule)
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 5, end_factor=1.0, total_iters=4)
    after: torch.optim.lr_scheduler.LRScheduler
    if schedule == "cosine":
        after = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=45)
    else:
        after = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    chained = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, after], milestones=[5])
    for step in range(50):
        assert math.isclose(learning_rate(step, recipe), optimizer.param_groups[0]["lr"], abs_tol=1e-9)
        optimizer.step()
        chained.step()
