"""The inputs that a model accepts, and its errors for all others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.model import VQVAE, VQVAEOutput, build_vqvae
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.train.objective import objective

# With 32 px images the bottom grid is 8 x 8, as large as the code dimension.
LEVELS = (LevelRecipe(codebook_size=16, code_dim=8), LevelRecipe(downsample=2, codebook_size=8, code_dim=4))
CODEBOOK = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1), replacement=None)

pytestmark = pytest.mark.usefixtures("unchecked")


def images(*shape: int, purpose: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(purpose))


@pytest.fixture(params=["parallel", "conditioned", "residual"])
def model(request: pytest.FixtureRequest) -> VQVAE:
    recipe = ModelRecipe(levels=LEVELS, hierarchy=request.param, width=8, residual_width=4)
    built = build_vqvae(recipe, CODEBOOK)
    built(images(4, 3, 32, 32))
    return built.eval()


@pytest.fixture
def flat() -> VQVAE:
    """A model of one level."""
    built = build_vqvae(ModelRecipe(levels=LEVELS[:1], width=8, residual_width=4), CODEBOOK)
    built(images(4, 3, 32, 32))
    return built.eval()


# --- images


@pytest.mark.parametrize("side", [24, 32])
def test_an_image_without_a_batch_axis_is_refused_for_any_size(flat: VQVAE, side: int) -> None:
    image = images(3, side, side)
    for call in (flat, flat.encode):
        with pytest.raises(FlatvqError) as caught:
            call(image)
        what = f"images of shape [3, {side}, {side}] have 3 axes, not [B, 3, H, W]"
        assert str(caught.value) == f"{what}: add a batch axis, images[None]"
    assert flat.encode(image[None])[0].shape == (1, side // 4, side // 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (images(2, 32, 32, 3), r"size 32 in axis 1, not \[B, 3, H, W\]: put the channels first"),
        (images(2, 1, 32, 32), r"size 1 in axis 1, not \[B, 3, H, W\]"),
        (images(2, 4, 32, 32), r"size 4 in axis 1, not \[B, 3, H, W\]"),
        (images(1, 2, 3, 32, 32), r"have 5 axes, not \[B, 3, H, W\]"),
        (images(32, 32), r"have 2 axes, not \[B, 3, H, W\]"),
        (torch.tensor(0.5), r"have 0 axes, not \[B, 3, H, W\]"),
        (np.zeros((2, 3, 32, 32), np.float32), "images of type numpy.ndarray are not a tensor"),
        ([[0.5]], "images of type list are not a tensor"),
        (Image.new("RGB", (32, 32)), "images of type PIL.Image.Image are not a tensor"),
        (None, "images of type NoneType are not a tensor"),
        ((255 * images(2, 3, 32, 32)).to(torch.uint8), r"images of dtype uint8 .* images.float\(\) / 255"),
        (images(2, 3, 32, 32).long(), "images of dtype int64 are not floating-point"),
        (images(2, 3, 32, 32) > 0.5, "images of dtype bool are not floating-point"),
        (images(2, 3, 32, 32) + 0j, "images of dtype complex64 are not floating-point"),
        (images(2, 3, 30, 32), "30x32 pixels do not fit codes of 8x8 pixels"),
        (images(2, 3, 0, 32), "0x32 pixels do not fit codes of 8x8 pixels"),
        (
            torch.empty(2, 3, 32, 32, device="meta"),
            r"images on meta do not fit a model on cpu: .*\.to\('cpu'\)",
        ),
    ],
)
def test_images_that_do_not_fit_the_model_are_refused_in_one_line(
    model: VQVAE, given: object, message: str
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        for call in (model, model.encode):
            with pytest.raises(FlatvqError, match=message) as caught:
                call(given)
            assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (lambda x: 255 * x, r"images range from 0.* to 25\d, not from 0 to 1: divide them by 255"),
        (lambda x: 2 * x - 1, r"images range from -\S+ to \S+, not from 0 to 1: .*\(images \+ 1\) / 2"),
        (lambda x: (255 * x).as_subclass(type("Image", (torch.Tensor,), {})), "divide them by 255"),
        (lambda x: x.masked_fill(x > 0.9, float("inf")), "NaN or infinity in the images"),
        (lambda x: x.masked_fill(x > 0.9, float("nan")), "NaN or infinity in the images"),
    ],
)
def test_images_on_another_scale_are_not_encoded(model: VQVAE, scale, message: str) -> None:
    with pytest.raises(FlatvqError, match=message):
        model.encode(scale(images(2, 3, 32, 32)))


def test_images_slightly_outside_the_scale_are_encoded(model: VQVAE) -> None:
    wide = 1.5 * images(2, 3, 32, 32) - 0.25  # as after interpolation or noise
    with torch.no_grad():
        expected = model(wide).levels
    for indices, level in zip(model.encode(wide), expected, strict=True):
        assert torch.equal(indices, level.indices)


# --- indices and codes


def test_indices_of_every_integer_type_decode_to_the_same_images(model: VQVAE) -> None:
    indices = model.encode(images(2, 3, 32, 32))
    expected = model.decode(indices)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(model.decode([level.to(dtype) for level in indices]), expected)


def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([zeros(2, 8, 8)], "indices of 1 levels do not fit a model of 2: pass one tensor per level"),
        ([zeros(2, 8, 8)] * 3, "indices of 3 levels do not fit a model of 2"),
        ([], "indices of 0 levels do not fit a model of 2"),
        (
            zeros(2, 8, 8),
            r"indices of type Tensor are not a list with one tensor per level: .*level0, level1",
        ),
        (None, "indices of type NoneType are not a list"),
        ([zeros(8, 8), zeros(4, 4)], r"indices\[0\] of shape \[8, 8\] have 2 axes, not \[B, h, w\]"),
        (
            [zeros(2, 64), zeros(2, 16)],
            r"indices\[0\] of shape \[2, 64\] .*indices\[0\].unflatten\(-1, \(h, w\)\)",
        ),
        ([zeros(2, 8, 8), zeros(2, 1, 4, 4)], r"indices\[1\] of shape \[2, 1, 4, 4\] have 4 axes"),
        ([zeros(2, 8, 8), [0]], r"indices\[1\] of type list are not a tensor"),
        ([zeros(2, 8, 8), zeros(3, 4, 4)], r"indices have batch sizes \[2, 3\]: pass the same images"),
        ([zeros(2, 8, 8), zeros(1, 4, 4)], r"indices have batch sizes \[2, 1\]"),
        (
            [zeros(2, 8, 8), zeros(2, 4, 8)],
            r"grids \[\(8, 8\), \(4, 8\)\] .* pass grids \[\(8, 8\), \(4, 4\)\]",
        ),
        ([zeros(2, 0, 8), zeros(2, 0, 4)], "do not fit codes"),
        (
            [zeros(2, 8, 8), zeros(2, 4, 4, dtype=torch.float32)],
            r"indices\[1\] of dtype float32 are not integers",
        ),
        ([zeros(2, 8, 8) > 0, zeros(2, 4, 4)], r"indices\[0\] of dtype bool are not integers"),
    ],
)
def test_indices_that_do_not_fit_are_refused_in_one_line(model: VQVAE, given: object, message: str) -> None:
    with pytest.raises(FlatvqError, match=message) as caught:
        model.decode(given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [-1, 16, 2**40])
def test_indices_outside_the_codebook_are_refused(model: VQVAE, index: int) -> None:
    indices = [zeros(2, 8, 8), zeros(2, 4, 4)]
    indices[0][1, 3, 5] = index
    with pytest.raises(FlatvqError, match=f"{index} .*16 codes"):
        model.decode(indices)


def codes(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.zeros(shape, dtype=dtype) for shape in shapes]


BOTTOM, TOP = (2, 8, 8, 8), (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (codes(BOTTOM), "code_vectors of 1 levels do not fit a model of 2"),
        (torch.zeros(BOTTOM), "code_vectors of type Tensor are not a list with one tensor per level"),
        (codes(BOTTOM, (2, 8, 4, 4)), r"code_vectors\[1\] .* size 8 in axis 1, not \[B, 4, h, w\]"),
        (codes(BOTTOM[1:], TOP[1:]), r"code_vectors\[0\] .* 3 axes, not \[B, 8, h, w\]: add a batch axis"),
        (
            codes((2, 8, 16, 8), TOP),
            r"code_vectors of grids \[\(16, 8\), \(4, 4\)\] do not belong to one image",
        ),
        (codes(BOTTOM, TOP, dtype=torch.int64), r"code_vectors\[0\] of dtype int64 are not floating-point"),
        (
            [torch.zeros(BOTTOM), torch.empty(TOP, device="meta")],
            r"code_vectors\[1\] on meta do not fit .* on cpu",
        ),
    ],
)
def test_code_vectors_that_do_not_fit_are_refused_in_one_line(
    model: VQVAE, given: object, message: str
) -> None:
    with pytest.raises(FlatvqError, match=message) as caught:
        model.decode_code_vectors(given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# --- empty batches


def test_an_empty_batch_goes_through_every_method(model: VQVAE) -> None:
    none = torch.zeros(0, 3, 32, 48)
    indices = model.encode(none)
    assert [level.shape for level in indices] == [(0, 8, 12), (0, 4, 6)]
    assert model.decode(indices).shape == (0, 3, 32, 48)
    assert model(none).reconstruction.shape == (0, 3, 32, 48)


def test_an_empty_batch_trains_with_losses_of_zero_and_changes_no_code(model: VQVAE) -> None:
    model.train()
    before = [quantizer.codebook.weight.clone() for quantizer in model.quantizers]
    none = torch.zeros(0, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = objective(model(none), none, TrainRecipe())
        losses.total.backward()
    assert [float(loss.detach()) for loss in vars(losses).values()] == [0.0] * 5
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in model.parameters())
    for quantizer, codes_before in zip(model.quantizers, before, strict=True):
        torch.testing.assert_close(quantizer.codebook.weight, codes_before)


# --- the objective


def test_the_objective_refuses_images_of_another_shape(flat: VQVAE) -> None:
    pictures = images(2, 3, 32, 32)
    output = flat(pictures)
    for other, message in (
        (pictures[0], r"images of shape \[3, 32, 32\] have 3 axes, not \[2, 3, 32, 32\]"),
        (pictures[:1], "have size 1 in axis 0"),
        ((255 * pictures).to(torch.uint8), "images of dtype uint8 are not floating-point"),
    ):
        with pytest.raises(FlatvqError, match=message):
            objective(output, other, TrainRecipe())


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 2.0**-13), (torch.float64, 1e-30)])
def test_the_objective_keeps_the_squares_of_small_errors(dtype: torch.dtype, error: float) -> None:
    """2^-26 underflows in float16, 1e-60 in float32."""
    blank = torch.zeros(1, 3, 4, 4, dtype=dtype)
    losses = objective(VQVAEOutput(blank + error, ()), blank, TrainRecipe())
    assert float(losses.reconstruction) == pytest.approx(error**2, rel=1e-6)
    assert float(losses.total) == pytest.approx(4 * error**2, rel=1e-6)
