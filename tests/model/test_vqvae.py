from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from flatvq.errors import FlatvqError
from flatvq.model import VQVAE, build_vqvae
from flatvq.quantize import VectorQuantizer
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

SMALL = partial(LevelRecipe, codebook_size=11, code_dim=3)
ONE = (SMALL(downsample=4),)
TWO = (SMALL(downsample=4), SMALL(downsample=2, code_dim=5))
THREE = (*TWO, SMALL(downsample=2, code_dim=4))
VARIANTS = [
    pytest.param(
        ModelRecipe(levels=levels, hierarchy=hierarchy, width=16, residual_width=7), id=f"{name}-{hierarchy}"
    )
    for name, levels in (("one", ONE), ("two", TWO), ("three", THREE), ("coarse", (SMALL(downsample=8),)))
    for hierarchy in ("parallel", "conditioned", "residual")
]


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_encoding_in_training_mode_trains_nothing() -> None:
    model = build_vqvae(ModelRecipe(levels=TWO, width=8, residual_width=2), CodebookRecipe())
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model(images)
    model(images)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.quantizers[0].eval()  # the mode of each part is restored
    indices = model.encode(images)
    assert model.training
    assert [quantizer.training for quantizer in model.quantizers] == [False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for level, expected in zip(indices, model.eval().encode(images), strict=True):
        assert torch.equal(level, expected)


@pytest.mark.parametrize("recipe", VARIANTS)
def test_gradients_reach_every_parameter(recipe, plain_model):
    model = plain_model(recipe)
    images = torch.rand(2, 3, 32, 48)
    output = model(images)
    codebook_losses = sum(level.codebook_loss + level.commitment_loss for level in output.levels)
    (functional.mse_loss(output.reconstruction, images) + codebook_losses).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not untouched


@pytest.mark.parametrize("recipe", VARIANTS)
def test_encode_and_decode_give_the_forward_pass(recipe, plain_model):
    model = plain_model(recipe).eval()
    images = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        output = model(images)
        indices = model.encode(images)
        decoded = model.decode(indices)
    for level, encoded in zip(output.levels, indices, strict=True):
        assert torch.equal(level.indices, encoded)
    # The straight-through sum z + (e - z) differs from e by rounding.
    torch.testing.assert_close(decoded, output.reconstruction, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("hierarchy", "depends"), [("parallel", False), ("conditioned", True), ("residual", True)]
)
@pytest.mark.parametrize("levels", [TWO, THREE])
def test_lower_indices_depend_on_upper_codes_unless_parallel(levels, hierarchy, depends, plain_model):
    model = plain_model(ModelRecipe(levels=levels, hierarchy=hierarchy, width=8, residual_width=3)).eval()
    images = torch.rand(4, 3, 64, 64)
    before = model.encode(images)
    with torch.no_grad():
        model.quantizers[-1].codebook.add_(3.0)
    after = model.encode(images)
    changed = [not torch.equal(old, new) for old, new in zip(before[:-1], after[:-1], strict=True)]
    assert changed == [depends] * (len(levels) - 1)


def span(cell: int, widenings: list[str]) -> tuple[int, int]:
    """Return the first and last position that a cell affects, computed by hand.

    A 3x3 convolution reaches one further; a transposed 4x4 of stride 2 sends i to 2i - 1 ... 2i + 2.
    """
    first, last = cell, cell
    for step in widenings:
        first, last = (2 * first - 1, 2 * last + 2) if step == "double" else (first - 1, last + 1)
    return first, last


@pytest.mark.parametrize(
    ("levels", "changed", "upsampling"),
    [(ONE, 0, []), (TWO, 0, []), (TWO, 1, ["double"]), (THREE, 2, ["double", "double"])],
)
def test_a_code_reaches_its_receptive_field_and_no_further(levels, changed, upsampling, plain_model):
    model = (
        plain_model(ModelRecipe(levels=levels, width=16, residual_width=8, residual_blocks=2)).eval().double()
    )
    side = 24 * 4
    grids = [side // 4, side // 8, side // 16][: len(levels)]
    indices = [torch.randint(11, (1, grid, grid)) for grid in grids]
    row, column = grids[changed] // 2, grids[changed] // 3
    moved = [level.clone() for level in indices]
    moved[changed][0, row, column] = (moved[changed][0, row, column] + 1) % 11
    with torch.no_grad():
        difference = (model.decode(moved) - model.decode(indices)).abs().amax(dim=(0, 1))

    path = [*upsampling, "wider", "wider", "wider", "double", "double"]
    rows, columns = (difference > 1e-12).nonzero().unbind(1)
    for cell, touched in ((row, rows), (column, columns)):
        first, last = span(cell, path)
        assert (int(touched.min()), int(touched.max())) == (max(first, 0), min(last, side - 1))


def test_moving_a_code_by_a_cell_moves_its_effect_by_the_factor(plain_model):
    model = (
        plain_model(ModelRecipe(levels=ONE, width=16, residual_width=8, residual_blocks=1)).eval().double()
    )
    fields = torch.zeros(3, 24, 24, dtype=torch.int64)
    fields[1, 12, 11] = fields[2, 12, 12] = 5
    with torch.no_grad():
        background, here, there = model.decode([fields])
    torch.testing.assert_close((there - background).roll(-4, dims=2), here - background, atol=1e-12, rtol=0)


def test_two_conditioned_levels_are_vqvae2_step_by_step(plain_model):
    """Compare to Razavi et al. 2019, algorithm 1, written with plain convolutions of the same weights."""
    recipe = ModelRecipe(levels=TWO, hierarchy="conditioned", width=8, residual_width=3, residual_blocks=1)
    model = plain_model(recipe).eval()
    images = torch.rand(2, 3, 32, 48)
    weights = {part: iter(getattr(model, part).parameters()) for part in ("encoders", "projections")}
    weights["top"], weights["upsampler"] = (iter(model.decoders[n].parameters()) for n in (1, 0))

    def conv(x, part, stride=1):
        weight, bias = next(weights[part]), next(weights[part])
        return functional.conv2d(x, weight, bias, stride, padding=(weight.shape[-1] - 1) // 2)

    def raised(x, part):
        return functional.conv_transpose2d(x, next(weights[part]), next(weights[part]), stride=2, padding=1)

    def residual(x, part):
        return x + conv(conv(x.relu(), part).relu(), part)

    x = conv(2 * images - 1, "encoders", 2).relu()
    x = conv(conv(x, "encoders", 2).relu(), "encoders")
    bottom = residual(x, "encoders").relu()
    x = conv(conv(bottom, "encoders", 2).relu(), "encoders")
    top = residual(x, "encoders").relu()
    to_bottom, to_top = model.projections[0][0], model.projections[1][0]
    q_top = model.quantizers[1](to_top(top))
    decoded = raised(residual(conv(q_top.quantized, "top"), "top").relu(), "top")
    q_bottom = model.quantizers[0](to_bottom(torch.cat([bottom, decoded], 1)))
    x = torch.cat([q_bottom.quantized, raised(q_top.quantized, "upsampler")], 1)
    x = residual(conv(x, "upsampler"), "upsampler").relu()
    image = raised(raised(x, "upsampler").relu(), "upsampler")

    output = model(images)
    assert torch.equal(output.levels[0].indices, q_bottom.indices)
    assert torch.equal(output.levels[1].indices, q_top.indices)
    torch.testing.assert_close(output.reconstruction, (image + 1) / 2, atol=1e-6, rtol=0)
    assert next(weights["encoders"], None) is None  # all weights were used


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_recipe_works_with_any_fitting_size(data, recipes, plain_model):
    recipe = data.draw(recipes)
    model = plain_model(recipe).eval()
    images = torch.rand(data.draw(st.integers(1, 2)), 3, model.factor, 2 * model.factor)
    assert model.decode(model.encode(images)).shape == images.shape


def test_a_size_that_does_not_fit_is_refused_with_a_remedy(plain_model):
    model = plain_model(ModelRecipe(levels=TWO, width=8))
    assert model.factor == 8
    with pytest.raises(FlatvqError, match=r"30x64 pixels .* multiples of 8, such as 24x64"):
        model(torch.rand(1, 3, 30, 64))
    with pytest.raises(FlatvqError, match="multiples of 8"):
        model.encode(torch.rand(1, 3, 64, 4))


@pytest.mark.parametrize(
    "grids", [[(4, 4)], [(4, 4), (4, 4)], [(4, 6), (2, 2)], [(4, 4), (2, 2), (1, 1)], []]
)
def test_indices_that_belong_to_no_image_are_refused(grids, plain_model):
    model = plain_model(ModelRecipe(levels=TWO, width=8))
    with pytest.raises(FlatvqError):
        model.decode([torch.zeros(1, *grid, dtype=torch.int64) for grid in grids])


def test_quantizers_of_another_recipe_are_refused(plain_model):
    quantizers = plain_model(ModelRecipe(levels=TWO, width=8)).quantizers
    with pytest.raises(FlatvqError, match="pass one per level"):
        VQVAE(ModelRecipe(levels=TWO, width=8), list(quantizers)[::-1])
    projected = VectorQuantizer(11, 3, input_dim=8)
    with pytest.raises(FlatvqError, match=r"\(11, 3, 8, \(\)\)\] are not .*\(11, 3, 3, \(\)\)"):
        VQVAE(ModelRecipe(levels=ONE, width=8), [projected])


def test_each_level_of_a_residual_hierarchy_quantizes_what_those_above_leave(plain_model):
    """Compare to the equations of residual quantization, with plain operations of the same weights."""
    recipe = ModelRecipe(levels=THREE, hierarchy="residual", width=8, residual_width=3)
    model = plain_model(recipe).eval()
    images = torch.rand(2, 3, 32, 48)

    def raised(x, weights):
        return functional.conv_transpose2d(x, *weights, stride=2, padding=1)

    def nearest(latents, codes):
        distances = (latents[:, None] - codes[None, :, :, None, None]).square().sum(dim=2)
        return distances.argmin(dim=1)

    with torch.no_grad():
        below = 2 * images - 1
        features = [below := encoder(below) for encoder in model.encoders]
        latents = [project(x) for project, x in zip(model.projections, features, strict=True)]
        codebooks = [quantizer.codebook for quantizer in model.quantizers]
        weights = [tuple(upsampler.parameters()) for upsampler in model.decoders[0].upsamplers]
        top = nearest(latents[2], codebooks[2])
        r2 = codebooks[2][top].movedim(-1, 1)
        middle = nearest(latents[1] - raised(r2, weights[1]), codebooks[1])
        r1 = codebooks[1][middle].movedim(-1, 1) + raised(r2, weights[1])
        bottom = nearest(latents[0] - raised(r1, weights[0]), codebooks[0])
        r0 = codebooks[0][bottom].movedim(-1, 1) + raised(r1, weights[0])
        reconstruction = (model.decoders[0].trunk(r0) + 1) / 2
        encoded = model.encode(images)
    for level, expected in zip(encoded, (bottom, middle, top), strict=True):
        assert torch.equal(level, expected)
    torch.testing.assert_close(model.decode(encoded), reconstruction, atol=1e-5, rtol=0)
    # The parts that are not coded are what is left of the latents.
    left = latents[0] - r0
    direct = torch.stack([(latents[0] - raised(r1, weights[0]) - code[:, None, None]).square().sum(dim=1)
                          for code in codebooks[0]]).amin(dim=0)  # fmt: skip
    torch.testing.assert_close(left.square().sum(dim=1), direct, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", [TWO, THREE])
def test_the_commitment_losses_of_lower_levels_train_the_upper_levels_of_a_residual_hierarchy(
    levels, plain_model
):
    model = plain_model(ModelRecipe(levels=levels, hierarchy="residual", width=16, residual_width=7)).double()
    images = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    upper = [
        parameter
        for part in (*model.projections[1:], *model.decoders[0].upsamplers)
        for parameter in part.parameters()
    ]
    output = model(images)
    of_lower = sum(level.commitment_loss for level in output.levels[:-1])
    of_commitment = torch.autograd.grad(of_lower, upper, retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in of_commitment)
    # The reconstruction depends on the sum of the levels, whose gradient passes to the latents unchanged.
    of_error = torch.autograd.grad(functional.mse_loss(output.reconstruction, images), upper)
    largest = max(float(gradient.abs().max()) for gradient in of_commitment)
    assert all(gradient.abs().max() < 1e-6 * largest for gradient in of_error)


def test_a_residual_hierarchy_of_one_level_is_a_single_level(plain_model):
    one, other = (ModelRecipe(levels=ONE, hierarchy=name, width=16) for name in ("residual", "parallel"))
    model, single = plain_model(one).eval(), plain_model(other).eval()
    single.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(model(images).reconstruction, single(images).reconstruction)


def test_the_tensors_of_the_output_are_leaves_of_a_tree(plain_model):
    """DDP with a static graph and FSDP2 find them by this."""
    model = plain_model(ModelRecipe(levels=TWO, width=8, residual_width=4))
    output = model(torch.rand(2, 3, 32, 32))
    leaves = tree_leaves(output)
    assert leaves[0] is output.reconstruction
    assert len(leaves) == 1 + 2 * 7
    assert any(leaf is output.levels[1].commitment_loss for leaf in leaves)
