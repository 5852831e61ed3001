"""Levels that start late: zeros before the start, then a factor that rises to 1."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from flatvq.errors import FlatvqError
from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import CodebookRecipe, InitRecipe, ModelRecipe, TrialRecipe, parse

CODEBOOK = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1))
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def recipe(hierarchy: str = "parallel", **top: int) -> ModelRecipe:
    levels = [
        {"downsample": 4, "codebook_size": 8, "code_dim": 4},
        {"downsample": 2, "codebook_size": 6, "code_dim": 4, **top},
    ]
    return parse(ModelRecipe, {"levels": levels, "hierarchy": hierarchy, "width": 8, "residual_width": 4})


def train_step(model: VQVAE, step: int) -> None:
    model.set_step(step)
    output = model(IMAGES)
    model.zero_grad()
    commitment = sum(level.commitment_loss for level in output.levels)
    (functional.mse_loss(output.reconstruction, IMAGES) + commitment).backward()


@pytest.mark.parametrize("hierarchy", ["parallel", "conditioned", "residual"])
def test_nothing_of_a_level_is_trained_before_it_starts(hierarchy: str) -> None:
    model = build_vqvae(recipe(hierarchy, start=2), CODEBOOK)
    of_top = [*model.encoders[1].parameters(), *model.projections[1].parameters()]
    for step in (0, 1):
        before = model.quantizers[1].state_dict()
        before = {name: value.clone() for name, value in before.items()}
        train_step(model, step)
        assert all(p.grad is not None and not p.grad.any() for p in of_top)
        after = model.quantizers[1].state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not model.quantizers[1].codebook.initialized
        assert model.quantizers[0].codebook.initialized
    train_step(model, 2)
    assert model.quantizers[1].codebook.initialized
    train_step(model, 3)
    assert all(p.grad is not None and p.grad.any() for p in of_top)


@pytest.mark.parametrize("hierarchy", ["parallel", "conditioned", "residual"])
def test_the_factor_rises_linearly_to_one(hierarchy: str) -> None:
    late = build_vqvae(recipe(hierarchy, start=10, warmup_steps=3), CODEBOOK)
    usual = build_vqvae(recipe(hierarchy), CODEBOOK)
    late(IMAGES)
    usual.load_state_dict(late.state_dict())  # the step is no part of the state
    late.eval(), usual.eval()
    indices = usual.encode(IMAGES)
    codes = [q.decode_indices(level) for q, level in zip(usual.quantizers, indices, strict=True)]
    for step, factor in ((0, 0.0), (9, 0.0), (10, 0.25), (11, 0.5), (12, 0.75), (13, 1.0), (1000, 1.0)):
        late.set_step(step)
        with torch.no_grad():
            expected = usual.decode_code_vectors([codes[0], factor * codes[1]])
            assert torch.equal(late.decode(indices), expected)
            whole = late(IMAGES)
            again = late.decode([level.indices for level in whole.levels])
        torch.testing.assert_close(whole.reconstruction, again, atol=1e-5, rtol=0)
    with torch.no_grad():
        assert torch.equal(late(IMAGES).reconstruction, usual(IMAGES).reconstruction)


def test_a_model_has_started_unless_a_step_is_set() -> None:
    late, usual = (build_vqvae(recipe(**top), CODEBOOK) for top in ({"start": 5}, {}))
    for _ in range(2):
        assert torch.equal(late(IMAGES).reconstruction, usual(IMAGES).reconstruction)


def test_a_start_that_never_comes_is_refused() -> None:
    with pytest.raises(FlatvqError, match="no level starts before step 3"):
        parse(ModelRecipe, {"levels": [{"start": 3}]})
    model = recipe(start=90, warmup_steps=10).model_dump()
    with pytest.raises(FlatvqError, match=r"levels.1 starts fully at step 100 .* training ends at step 100"):
        parse(TrialRecipe, {"model": model, "train": {"steps": 100}})
    assert parse(TrialRecipe, {"model": model, "train": {"steps": 101}}).train.steps == 101


@pytest.mark.parametrize("assign", [False, True])
def test_the_factors_leave_the_meta_device_with_the_weights(assign: bool) -> None:
    """They are not in the state dict, so loading does not restore them."""
    model = build_vqvae(recipe(start=10), CODEBOOK).eval()
    empty = build_vqvae(recipe(start=10), CODEBOOK).to("meta")
    empty.set_step(0)
    if not assign:
        empty.to_empty(device="cpu")
    empty.load_state_dict(model.state_dict(), assign=assign)
    assert empty.level_factors.tolist() == [1.0, 1.0]
    with torch.no_grad():
        assert torch.equal(empty.eval()(IMAGES).reconstruction, model(IMAGES).reconstruction)
    empty.train().set_step(0)
    empty(IMAGES)
    assert not empty.quantizers[1].codebook.initialized


def test_conversions_keep_the_factors() -> None:
    model = build_vqvae(recipe(start=2, warmup_steps=3), CODEBOOK)
    model.set_step(3)
    model.to("cpu").double().float()
    assert model.level_factors.tolist() == [1.0, 0.5]
