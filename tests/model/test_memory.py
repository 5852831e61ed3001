"""Models and trainings larger than the memory are refused before anything is allocated."""

from __future__ import annotations

import os

import pytest
from torch import nn

from flatvq.errors import FlatvqError
from flatvq.model import build_vqvae
from flatvq.model.memory import model_bytes, require_memory, training_bytes
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe, load_recipe
from flatvq.study import plan_study, planned_trial

pytestmark = pytest.mark.slow


def bytes_of(module: nn.Module) -> int:
    state = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in state)


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_a_model_needs_at_least_the_counted_memory(kind: str) -> None:
    levels = tuple(LevelRecipe(downsample=2, codebook_size=size, code_dim=8) for size in (300, 70))
    recipe = ModelRecipe(width=16, residual_width=8, levels=levels)
    model = build_vqvae(recipe, CodebookRecipe(update={"kind": kind}))  # type: ignore[arg-type]
    in_use = 8 * (300 + 70)  # counts of an evaluation
    # Each codebook has a few more numbers, such as its step.
    assert 0 <= bytes_of(model) + in_use - model_bytes(recipe) < 200


def test_a_model_that_does_not_fit_is_refused_with_both_sizes() -> None:
    recipe = ModelRecipe(levels=(LevelRecipe(codebook_size=10**11, code_dim=4),))
    with pytest.raises(
        FlatvqError, match=r"the model takes 3\.6 TB of memory or more, and this machine has \d"
    ):
        build_vqvae(recipe, CodebookRecipe())


def test_a_training_is_added_to_its_model() -> None:
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = present - model_bytes(ModelRecipe())
    require_memory(ModelRecipe(), left)
    with pytest.raises(FlatvqError, match=r"the training takes .*: lower train\.batch_size"):
        require_memory(ModelRecipe(), left + 1)


def test_a_training_needs_its_batch_and_the_vectors_for_initialization() -> None:
    def taken(*overrides: str) -> int:
        overrides = ("train.batch_size=4", "train.steps=10", "data.crop=32", "data.resize=0", *overrides)
        return training_bytes(load_recipe("photographs", overrides).trial("two-level-healthy", 0))

    batch = 4 * 3 * 32 * 32 * 13
    random = "codebook.init.kind=random"
    assert taken(random) == batch
    assert taken(random, "model.channels=1") == batch // 3
    # 4 vectors of 8 dimensions for each of the 256 codes; the upper level has only 10 x 4 x 4 x 4.
    assert taken() == batch + 4 * 8 * (4 * 256 + 640)
    assert taken("codebook.init.vectors_per_code=1000000") == batch + 4 * 8 * (10 * 4 * 64 + 640)


@pytest.mark.parametrize(
    "override", ["model.levels.0.codebook_size=100000000000", "train={batch_size: 1000000}"]
)
def test_a_plan_that_does_not_fit_is_refused(override: str) -> None:
    recipe = load_recipe("imagenet-256", [override])
    with pytest.raises(FlatvqError, match="of memory or more"):
        plan_study(recipe, "large")


def test_a_trial_that_does_not_fit_is_refused() -> None:
    recipe = load_recipe("photographs", ["model.levels.0.codebook_size=100000000000", "match.solve=false"])
    with pytest.raises(FlatvqError, match="of memory or more"):
        planned_trial(recipe, "two-level-healthy", 0)
