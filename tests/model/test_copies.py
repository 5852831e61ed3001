"""Copies of whole models: deep copies, averaged weights, other processes."""

from __future__ import annotations

import copy
import multiprocessing

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.train.objective import objective

pytestmark = pytest.mark.processes

LEVELS = (LevelRecipe(codebook_size=16, code_dim=4), LevelRecipe(downsample=2, scalar_levels=(5, 4)))
UPDATES = ["ema", "gradient"]


def images(purpose: int = 0) -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(purpose))


def new(update: str = "ema") -> VQVAE:
    init = InitRecipe(kind="kmeans", vectors_per_code=2)
    codebook = CodebookRecipe(init=init, update={"kind": update}, replacement={"every": 3})
    return build_vqvae(ModelRecipe(levels=LEVELS, width=8, residual_width=4), codebook)


def train(model: VQVAE, steps: range) -> VQVAE:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in steps:
        optimizer.zero_grad()
        objective(model(images(step)), images(step), TrainRecipe()).total.backward()
        optimizer.step()
    return model


def assert_equal_state(ours: VQVAE, theirs: VQVAE) -> None:
    for (name, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_deep_copy_is_independent_and_trains_the_same(update: str, steps: int) -> None:
    model = train(new(update), range(steps))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied = copy.deepcopy(model)
    train(copied, range(steps, steps + 6))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert_equal_state(train(model, range(steps, steps + 6)), copied)


@pytest.mark.parametrize("update", UPDATES)
def test_training_resumes_from_a_state_dict_as_in_the_original_model(update: str) -> None:
    model = train(new(update), range(5))
    loaded = new(update)
    loaded.load_state_dict(model.state_dict())
    assert_equal_state(train(loaded, range(5, 11)), train(model, range(5, 11)))


@pytest.mark.parametrize("update", UPDATES)
def test_averaged_weights_can_be_trained_on(update: str) -> None:
    model = new(update)
    averaged = AveragedModel(model)
    for step in range(12):
        train(model, range(step, step + 1))
        averaged.update_parameters(model)
    assert bool(averaged.module.eval().encode(images())[0].unique().numel() > 1)
    tuned = new(update)
    tuned.load_state_dict(averaged.module.state_dict())
    codes = tuned.quantizers[0].codebook.weight
    before = codes.detach().clone()
    train(tuned, range(12, 13))
    moved = float((codes.detach() - before).norm() / before.norm())
    # A step moves codes by a few percent. A new initialization would move them by as much as their norm.
    assert moved < 0.2


def test_another_process_encodes_the_same_and_can_train() -> None:
    model = train(new(), range(5)).eval()
    expected = model.encode(images())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        encoded = pool.apply(VQVAE.encode, (model, images()))
        returned = pool.apply(copy.copy, (model,))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(encoded, expected, strict=True))
    assert_equal_state(train(returned.train(), range(5, 8)), train(model.train(), range(5, 8)))
