"""Models of one channel, and the conversion of 8-bit images to and from one channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.model import build_vqvae, capacity_of, load_tokenizer, save_tokenizer
from flatvq.model.pixels import with_channels
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe, merge, parse

LEVELS = (LevelRecipe(codebook_size=16, code_dim=4), LevelRecipe(downsample=2, codebook_size=8, code_dim=4))


def chw(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).movedim(-1, 0)


# --- conversion


def test_the_luma_of_a_grid_of_colors_is_that_of_pillow() -> None:
    """All 52 x 52 x 52 colors in steps of 5, so that every rounding occurs."""
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(52, -1, 3)
    expected = np.array(Image.fromarray(colours).convert("L"))
    np.testing.assert_array_equal(with_channels(chw(colours), 1)[0].numpy(), expected)


@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_the_luma_of_any_image_is_that_of_pillow(pixels: np.ndarray) -> None:
    expected = np.array(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(with_channels(chw(pixels), 1)[0].numpy(), expected)


def test_gray_images_are_unchanged_in_both_directions() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    color = with_channels(levels, 3)
    expected = np.array(Image.fromarray(levels[0, 0].numpy()).convert("RGB"))
    np.testing.assert_array_equal(color[0].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(with_channels(color, 1), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_the_right_number_of_channels_are_returned_unchanged(channels: int) -> None:
    pixels = torch.randint(256, (2, channels, 5, 4), dtype=torch.uint8)
    assert with_channels(pixels, channels) is pixels


@pytest.mark.parametrize(
    "pixels",
    [torch.rand(3, 4, 4), torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8)],
)
def test_only_8_bit_images_of_one_or_three_channels_are_converted(pixels: torch.Tensor) -> None:
    with pytest.raises(FlatvqError, match=r"are not uint8 \[..., 3, H, W\]"):
        with_channels(pixels, 1)


# --- recipe, model, capacity, tokenizer


@pytest.mark.parametrize("channels", [0, 2, 4, -1, "grey", 1.5])
def test_other_numbers_of_channels_are_refused_by_name(channels: object) -> None:
    with pytest.raises(FlatvqError, match="channels"):
        parse(ModelRecipe, {"channels": channels}, "the recipe")


@pytest.mark.parametrize("hierarchy", ["parallel", "conditioned", "residual"])
def test_a_model_of_one_channel_has_one_at_both_ends(hierarchy: str) -> None:
    recipe = ModelRecipe(levels=LEVELS, hierarchy=hierarchy, width=8, residual_width=4, channels=1)
    model = build_vqvae(recipe, CodebookRecipe())
    images = torch.rand(2, 1, 32, 48)
    output = model(images)
    assert output.reconstruction.shape == images.shape
    assert model.eval().decode(model.encode(images)).shape == images.shape
    with pytest.raises(FlatvqError, match=r"size 3 in axis 1, not \[B, 1, H, W\]"):
        model(torch.rand(2, 3, 32, 48))


def test_one_channel_changes_only_the_first_and_last_convolution_and_no_bits() -> None:
    color = ModelRecipe(levels=LEVELS, width=8, residual_width=4)
    gray = parse(ModelRecipe, merge(color.model_dump(), {"channels": 1}), "the recipe")
    of_color, of_gray = capacity_of(color, 32), capacity_of(gray, 32)
    assert of_gray.bits_per_image == of_color.bits_per_image
    assert of_gray.bits_per_pixel == of_color.bits_per_pixel
    # Two channels fewer: 4 x 4 weights to and from half the width, and two biases of the last convolution.
    assert of_color.network_parameters - of_gray.network_parameters == 2 * (2 * 4 * 16) + 2
    assert of_color.network_multiply_adds - of_gray.network_multiply_adds == 2 * (2 * 4 * 16) * 16**2
    model = build_vqvae(gray, CodebookRecipe())
    codebooks = sum(p.numel() for p in model.quantizers.parameters())
    assert sum(p.numel() for p in model.parameters()) - codebooks == of_gray.network_parameters


def test_a_tokenizer_of_one_channel_is_saved_and_loaded(tmp_path) -> None:
    recipe = ModelRecipe(levels=LEVELS, width=8, residual_width=4, channels=1)
    model = build_vqvae(recipe, CodebookRecipe()).eval()
    save_tokenizer(tmp_path, model, {"model": recipe.model_dump(mode="json"), "codebook": {}})
    loaded = load_tokenizer(tmp_path)
    assert loaded.recipe.channels == 1
    images = torch.rand(2, 1, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(model.encode(images), loaded.encode(images), strict=True))
