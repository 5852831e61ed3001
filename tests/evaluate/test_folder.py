"""Evaluation of folders in which some metrics are not defined for every image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from flatvq.errors import FlatvqError
from flatvq.evaluate import evaluate_folder
from flatvq.evaluate.perceptual import find_weights, load_lpips
from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe

WriteImages = Callable[..., Path]


@pytest.fixture
def model() -> VQVAE:
    level = LevelRecipe(codebook_size=16, code_dim=4)
    codebook = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1), replacement=None)
    built = build_vqvae(ModelRecipe(levels=(level,), width=8, residual_width=4), codebook)
    built(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return built.eval()


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """Write noise of some sizes (height, width) as PNG files named by the size."""

    def write(*sizes: tuple[int, int]) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        random = np.random.default_rng(0)
        for number, (height, width) in enumerate(sizes):
            picture = random.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(picture).save(folder / f"{number}-{height}x{width}.png")
        return folder

    return write


def reconstructed(model: VQVAE, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, of a size that fits the model, and its reconstruction as stored."""
    pixels = np.array(Image.open(path))
    with torch.no_grad():
        rebuilt = model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).reconstruction[0]
    return pixels, np.rint(rebuilt.permute(1, 2, 0).numpy().clip(0, 1) * 255).astype(np.uint8)


def test_an_image_too_small_for_ssim_has_other_metrics_and_is_listed(
    model: VQVAE, write_images: WriteImages
) -> None:
    folder = write_images((64, 64), (8, 8), (64, 48), (200, 180))
    result = evaluate_folder(model, folder, crop=None, resize=0)
    assert result["images"] == 4
    assert result["ssim"] is None
    assert result["ms_ssim"] is None
    errors = [
        np.mean((np.float64(pixels) - stored) ** 2) / 255**2
        for pixels, stored in (reconstructed(model, path) for path in sorted(folder.iterdir()))
    ]
    assert result["mse"] == pytest.approx(np.mean(errors))
    assert result["psnr_db"] == pytest.approx(np.mean(-10 * np.log10(errors)))
    undefined = {file["name"]: file["reason"] for file in result["files"]}
    assert {file["status"] for file in result["files"]} == {"undefined"}
    assert {file["split"] for file in result["files"]} == {"evaluation"}
    assert undefined == {
        "0-64x64.png": "too small for MS-SSIM, so there is no mean",
        "1-8x8.png": "too small for SSIM and MS-SSIM, so there is no mean",
        "2-64x48.png": "too small for MS-SSIM, so there is no mean",
    }
    json.dumps(result, allow_nan=False)


def test_ssim_of_images_that_are_large_enough_is_given(model: VQVAE, write_images: WriteImages) -> None:
    folder = write_images((64, 64), (12, 16))
    result = evaluate_folder(model, folder, crop=None, resize=0)
    expected = [
        structural_similarity(
            *reconstructed(model, path), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            channel_axis=2, data_range=255,
        )
        for path in sorted(folder.iterdir())
    ]  # fmt: skip
    assert result["ssim"] == pytest.approx(np.mean(expected), abs=1e-3)
    # MS-SSIM is defined for none of them: that is the split's size, and no file stands out.
    assert (result["ms_ssim"], result["files"]) == (None, [])


def test_a_folder_of_small_images_alone_has_no_ssim(model: VQVAE, write_images: WriteImages) -> None:
    result = evaluate_folder(model, write_images((8, 8), (8, 8)), crop=None, resize=0)
    assert (result["ssim"], result["ms_ssim"], result["files"]) == (None, None, [])
    assert result["psnr_db"] > 0


@pytest.mark.slow
def test_lpips_is_given_where_it_is_defined_and_names_what_is_too_small(
    model: VQVAE, write_images: WriteImages, perceptual_weights: Path
) -> None:
    folder = write_images((64, 64), (32, 40))
    result = evaluate_folder(model, folder, crop=None, resize=0, weights=perceptual_weights)
    lpips = load_lpips(find_weights(perceptual_weights))
    distances = []
    for path in sorted(folder.iterdir()):
        pair = [torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in reconstructed(model, path)]
        distances.append(float(lpips(*pair)))
    assert result["lpips"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert result["rfid"] > 0

    Image.new("RGB", (28, 28), "red").save(folder / "icon.png")
    with_icon = evaluate_folder(model, folder, crop=None, resize=0, weights=perceptual_weights)
    assert with_icon["lpips"] is None
    assert with_icon["rfid"] > 0
    assert [(file["name"], file["reason"]) for file in with_icon["files"]] == [
        ("icon.png", "too small for LPIPS, so there is no mean")
    ]


def test_one_image_has_no_rfid(model: VQVAE, write_images: WriteImages, perceptual_weights: Path) -> None:
    result = evaluate_folder(model, write_images((64, 64)), crop=None, resize=0, weights=perceptual_weights)
    assert result["rfid"] is None
    assert result["lpips"] > 0


def test_perceptual_metrics_restore_the_mode_of_the_model(
    model: VQVAE, write_images: WriteImages, perceptual_weights: Path
) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate_folder(model, write_images((64, 64)), crop=32, resize=0, weights=perceptual_weights)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("given", ["flatvq-f8", torch.nn.Identity()])
def test_what_is_no_model_is_refused(given: object, tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(FlatvqError, match=f"a model of type {type(given).__name__} is not a VQVAE"):
        evaluate_folder(given, tmp_path)  # type: ignore[arg-type]
