"""The estimated time of a study is measured on few images."""

from __future__ import annotations

import pytest
from torch import Tensor

from flatvq.model import VQVAE
from flatvq.recipe import StudyRecipe, load_recipe, parse
from flatvq.study import estimate, estimate_seconds, plan_study


@pytest.mark.parametrize(("long_step", "images"), [(1e9, [1, 1, 16, 16, 16, 16]), (0.0, [1, 1])])
def test_each_model_is_timed_once_and_long_steps_with_a_single_image(
    monkeypatch: pytest.MonkeyPatch, long_step: float, images: list[int]
) -> None:
    seen: list[int] = []
    forward = VQVAE.forward

    def counted(self: VQVAE, batch: Tensor) -> object:
        seen.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(VQVAE, "forward", counted)
    monkeypatch.setattr(estimate, "_LONG_STEP", long_step)
    tree = {
        "data": {"crop": 16},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 8, "code_dim": 4}]},
        "train": {"batch_size": 16, "precision": "float32"},
        "arms": {"naive": {"codebook": {"replacement": None}}, "healthy": {}},
    }
    plan = plan_study(parse(StudyRecipe, tree), "small")
    assert estimate_seconds(plan, plan.recipe.looks[0]) > 0
    assert seen == images


def test_the_estimate_is_in_proportion_to_steps_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_step_seconds", lambda *model, images, steps: 0.25 * images)
    monkeypatch.setattr(estimate, "_LONG_STEP", 1.0)
    plan = plan_study(load_recipe("photographs", ["train.steps=100", "workers=2"]), "photographs")
    batch = plan.recipe.train.batch_size
    trials = len(plan.trials_at(16))
    expected = trials * (0.25 * batch * 100 + estimate._OVERHEAD_SECONDS) / 2
    assert estimate_seconds(plan, 16) == pytest.approx(expected)
