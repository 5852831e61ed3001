from __future__ import annotations

from math import log2

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from flatvq.errors import FlatvqError
from flatvq.model import build_vqvae, capacity_of
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

BOTTOM, TOP = LevelRecipe(downsample=4), LevelRecipe(downsample=2)


def network_parameters(model):
    codebooks = {id(parameter) for parameter in model.quantizers.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in codebooks)


@pytest.mark.parametrize(
    ("recipe", "parameters", "multiply_adds_g"),
    [
        # The models of the published code. Multiply-adds were counted from that code, in G to three decimals.
        (ModelRecipe(width=128, residual_width=64), 826_691, 3.456),
        (ModelRecipe(width=144, residual_width=72), 1_033_699, 4.313),
        (ModelRecipe(width=128, residual_width=64, levels=(BOTTOM, TOP)), 1_343_491, 4.211),
        (ModelRecipe(width=128, residual_width=32, levels=(BOTTOM, TOP)), 1_097_539, 3.456),
    ],
)
def test_reference_models_have_their_published_size(recipe, parameters, multiply_adds_g):
    capacity = capacity_of(recipe, 256)
    assert capacity.network_parameters == parameters
    assert round(capacity.network_multiply_adds / 1e9, 3) == multiply_adds_g
    assert network_parameters(build_vqvae(recipe, CodebookRecipe())) == parameters


def test_vqvae2_as_configured_in_its_paper():
    # Razavi et al. 2019, table 1: 128 hidden units, 64 residual units, 2 blocks, K 512, D 64.
    # Weights and biases:
    blocks = 2 * ((128 * 64 * 9 + 64) + (64 * 128 + 128))
    to_half = (3 * 64 * 16 + 64) + (64 * 128 * 16 + 128)
    encoder_bottom = to_half + (128 * 128 * 9 + 128) + blocks
    encoder_top = (128 * 64 * 16 + 64) + (64 * 128 * 9 + 128) + blocks
    projections = (128 * 64 + 64) + (
        (128 + 64) * 64 + 64
    )  # that of the bottom also takes the 64 decoded channels
    decoder_top = (64 * 128 * 9 + 128) + blocks + (128 * 64 * 16 + 64)
    upsampler = 64 * 64 * 16 + 64
    decoder = ((64 + 64) * 128 * 9 + 128) + blocks + (128 * 64 * 16 + 64) + (64 * 3 * 16 + 3)
    total = encoder_bottom + encoder_top + projections + decoder_top + upsampler + decoder
    assert total == 1_716_803

    levels = (LevelRecipe(downsample=4, codebook_size=512), LevelRecipe(downsample=2, codebook_size=512))
    recipe = ModelRecipe(levels=levels, hierarchy="conditioned", width=128, residual_width=64)
    capacity = capacity_of(recipe, 256)
    assert capacity.network_parameters == total
    assert capacity.codebook_parameters == 2 * 512 * 64
    assert capacity.parameters == total + 2 * 512 * 64
    assert capacity.bits_per_image == 64 * 64 * 9 + 32 * 32 * 9


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_counts_agree_with_the_module(data, recipes, plain_model):
    recipe = data.draw(recipes)
    rows, columns = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    with torch.device("meta"):  # shapes only, without arithmetic or memory
        model = plain_model(recipe).eval()
        images = torch.empty(1, 3, rows * model.factor, columns * model.factor)
        with FlopCounterMode(display=False) as counter:
            output = model(images)

    capacity = capacity_of(recipe, (images.shape[2], images.shape[3]))
    assert output.reconstruction.shape == images.shape
    assert capacity.network_parameters == network_parameters(model)
    assert (
        2 * capacity.network_multiply_adds == counter.get_total_flops()
    )  # torch counts a multiply-add as two
    assert capacity.codebook_parameters == sum(p.numel() for p in model.quantizers.parameters())
    assert capacity.parameters == sum(p.numel() for p in model.parameters())
    assert [level.grid for level in capacity.levels] == [tuple(q.indices.shape[1:]) for q in output.levels]
    bits = sum(
        q.indices.numel() * log2(p.codebook_size)
        for q, p in zip(output.levels, model.quantizers, strict=True)
    )
    assert capacity.bits_per_image == pytest.approx(bits, rel=1e-12)
    assert capacity.bits_per_pixel == pytest.approx(bits / images[0, 0].numel(), rel=1e-12)
    searches = sum(
        q.indices.numel() * p.codebook_size * p.code_dim
        for q, p in zip(output.levels, model.quantizers, strict=True)
    )
    assert capacity.search_multiply_adds == searches
    assert capacity.multiply_adds == counter.get_total_flops() // 2 + searches


def test_scalar_levels_have_bits_but_no_codebook_and_no_search():
    mixed = ModelRecipe(
        levels=(LevelRecipe(scalar_levels=(8, 5, 5, 5)), LevelRecipe(downsample=2, codebook_size=16))
    )
    capacity = capacity_of(mixed, (64, 32))
    assert capacity.bits_per_image == pytest.approx(16 * 8 * log2(1000) + 8 * 4 * 4)
    assert capacity.codebook_parameters == 16 * 64
    assert capacity.search_multiply_adds == 8 * 4 * 16 * 64
    assert [(level.codebook_size, level.code_dim) for level in capacity.levels] == [(1000, 4), (16, 64)]


@pytest.mark.parametrize("size", [60, (64, 60), 4, 0])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(size):
    recipe = ModelRecipe(levels=(BOTTOM, TOP))
    with pytest.raises(FlatvqError, match="multiples of 8, such as") as caught:
        capacity_of(recipe, size)
    sides = caught.value.remedy.rsplit(" ", 1)[1].split("x")
    capacity_of(recipe, (int(sides[0]), int(sides[1])))
