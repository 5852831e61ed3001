"""Evaluation of a split against values computed from the images directly."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.evaluate import evaluate, evaluate_folder
from flatvq.evaluate.split import reconstruct
from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe


def model() -> VQVAE:
    """An untrained model, with codes near its latents so that several are used."""
    bottom = LevelRecipe(codebook_size=16, code_dim=4)
    levels = (bottom, LevelRecipe(downsample=2, codebook_size=8, code_dim=4))
    codebook = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1), replacement=None)
    built = build_vqvae(ModelRecipe(levels=levels, width=8, residual_width=4), codebook)
    built(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return built


def pictures(*sizes: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [(f"{n}.png", random.integers(0, 256, (*size, 3), np.uint8)) for n, size in enumerate(sizes)]


def by_hand(built: VQVAE, pixels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Reconstruct one picture of a fitting size as stored; return it and the indices of each level."""
    built.eval()
    with torch.no_grad():
        output = built(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    stored = np.rint(output.reconstruction[0].permute(1, 2, 0).numpy().clip(0, 1) * 255).astype(np.uint8)
    return stored, [level.indices[0].numpy() for level in output.levels]


def test_figures_are_those_of_the_stored_pictures_and_the_pooled_histogram() -> None:
    built, images = model(), pictures((64, 64), (64, 64), (32, 64), (64, 64))
    evaluation = evaluate(built, images, batch_size=3, keep=[1, 2])
    record = evaluation.to_dict()
    rebuilt = [by_hand(built, pixels) for _, pixels in images]
    pairs = [(p, s) for (_, p), (s, _) in zip(images, rebuilt, strict=True)]
    psnr = [peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
    assert evaluation.psnr_db == pytest.approx(psnr)
    assert record["psnr_db"] == pytest.approx(np.mean(psnr))
    errors = [np.mean((p / 255 - s / 255) ** 2) for p, s in pairs]
    assert record["psnr_of_mean_mse_db"] == pytest.approx(-10 * np.log10(np.mean(errors)))
    for number, size in enumerate((16, 8)):
        pooled = np.concatenate([indices[number].ravel() for _, indices in rebuilt])
        counts = np.bincount(pooled, minlength=size)
        shares = counts[counts > 0] / counts.sum()
        level = record["levels"][number]
        assert level["used_codes"] == np.count_nonzero(counts)
        assert level["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert level["grid"] is None, "the pictures differ in size"
    assert [sample.name for sample in evaluation.samples] == ["1.png", "2.png"]
    np.testing.assert_array_equal(evaluation.samples[1].reconstruction, rebuilt[2][0])
    # 16 x 16 x 4 bits + 8 x 8 x 3 bits for a whole picture, half of that for the flat one.
    assert evaluation.bits == (1216, 1216, 608, 1216)
    assert record["bits_per_pixel"] == pytest.approx(1216 / 64**2)


def test_the_quantization_error_is_relative_to_the_latents_variance() -> None:
    built, images = model(), pictures((64, 64), (64, 64))
    level = evaluate(built, images).to_dict()["levels"][0]
    built.eval()
    with torch.no_grad():
        batch = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for _, p in images])
        quantized = built(batch).levels[0]
    z = quantized.latents.movedim(1, -1).flatten(0, -2).double()
    e = quantized.code_vectors.movedim(1, -1).flatten(0, -2).double()
    expected = (z - e).square().sum(1).mean() / (z - z.mean(0)).square().sum(1).mean()
    assert level["quantization_error"] == pytest.approx(float(expected))


def test_a_size_that_does_not_fit_is_padded_and_measured_without_the_padding() -> None:
    built, (named,) = model(), pictures((37, 50))
    evaluation = evaluate(built, [named], keep=[0])
    padded = np.pad(named[1], ((0, 3), (0, 6), (0, 0)), mode="edge")
    stored, indices = by_hand(built, padded)
    np.testing.assert_array_equal(evaluation.samples[0].reconstruction, stored[:37, :50])
    assert evaluation.levels[0].grid == indices[0].shape == (10, 14)
    assert evaluation.bits[0] == pytest.approx(10 * 14 * math.log2(16) + 5 * 7 * math.log2(8))


def test_evaluation_does_not_change_the_model() -> None:
    built = model().train()
    before = {key: value.clone() for key, value in built.state_dict().items()}
    evaluate(built, pictures((32, 32)))
    assert built.training
    assert all(torch.equal(before[key], value) for key, value in built.state_dict().items())


def test_no_images_is_an_error() -> None:
    with pytest.raises(FlatvqError, match="no images to evaluate"):
        evaluate(model(), [])


def test_a_folder_with_odd_files_is_measured_and_the_odd_ones_named(tmp_path: Path) -> None:
    for name, pixels in pictures((48, 64), (40, 40)):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    built = model()
    crops = evaluate_folder(built, tmp_path, crop=32, resize=0)
    assert (crops["images"], crops["evaluation_protocol"]) == (2, "flatvq-1/crop-32/own-size")
    assert [(file["name"], file["status"]) for file in crops["files"]] == [("broken.png", "unreadable")]
    whole = evaluate_folder(built, tmp_path, crop=None, resize=0)
    assert whole["evaluation_protocol"] == "flatvq-1/whole/own-size"
    same = evaluate(built, pictures((48, 64), (40, 40)), batch_size=1).to_dict()
    assert whole["psnr_db"] == pytest.approx(same["psnr_db"])


def test_every_module_is_back_in_its_own_mode_afterwards() -> None:
    built = model().train()
    built.quantizers[1].eval()  # such as a codebook that shall not learn
    modes = [module.training for module in built.modules()]
    evaluate(built, pictures((32, 32)))
    assert [module.training for module in built.modules()] == modes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            [("a.png", np.zeros((32, 32), np.uint8))],
            r"image 'a.png' is uint8 \[32, 32\], not uint8 \[H, W, 3\]",
        ),
        ([("a.png", np.zeros((32, 32, 1), np.uint8))], r"image 'a.png' is uint8 \[32, 32, 1\]"),
        ([("a.png", np.zeros((0, 32, 3), np.uint8))], r"image 'a.png' is uint8 \[0, 32, 3\]"),
        ([("a.png", np.zeros((32, 32, 4), np.uint8))], r"image 'a.png' is uint8 \[32, 32, 4\]"),
        ([("a.png", np.zeros((32, 32, 3), np.float32))], r"image 'a.png' is float32 \[32, 32, 3\]"),
        ([("a.png", np.zeros((3, 32, 32), np.uint8))], r"image 'a.png' is uint8 \[3, 32, 32\]"),
        ([("a.png", torch.zeros(32, 32, 3))], "image 'a.png' is Tensor, not uint8"),
        (
            [np.zeros((32, 32, 3), np.uint8)],
            r"an image of type ndarray has no name: pass pairs \(name, pixels\)",
        ),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "an image of type Tensor has no name"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_named_image_is_refused_by_name(images: object, message: str) -> None:
    with pytest.raises(FlatvqError, match=message):
        evaluate(model(), images)  # type: ignore[arg-type]


def test_batches_of_no_images_are_refused() -> None:
    with pytest.raises(FlatvqError, match="batch_size is 0"):
        evaluate(model(), pictures((32, 32)), batch_size=0)


@pytest.mark.usefixtures("unchecked")
def test_only_8_bit_batches_are_reconstructed() -> None:
    built = model().eval()
    for original, message in (
        (torch.rand(1, 3, 32, 32), "images of dtype float32 are not 8-bit"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"3 axes, not \[B, 3, H, W\]: add a batch axis"),
    ):
        with pytest.raises(FlatvqError, match=message):
            reconstruct(built, original)


def test_a_decoder_that_gives_nan_has_no_figures() -> None:
    built = model()
    with torch.no_grad():
        list(built.decoders[0].parameters())[-1].fill_(math.nan)
    with pytest.raises(NonFiniteError, match="NaN or infinity in the reconstructions"):
        evaluate(built, pictures((32, 32)))


def test_structure_that_was_not_measured_has_no_value() -> None:
    record = evaluate(model(), pictures((64, 64)), structure=False).to_dict()
    assert (record["ssim"], record["ms_ssim"]) == (None, None)


def test_a_model_of_one_channel_is_measured_on_the_luma_that_pillow_computes() -> None:
    level = LevelRecipe(codebook_size=16, code_dim=4)
    codebook = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1), replacement=None)
    built = build_vqvae(ModelRecipe(levels=(level,), width=8, residual_width=4, channels=1), codebook)
    built(torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    images = pictures((64, 64), (64, 64), (30, 64))
    result = evaluate(built.eval(), images, keep=[0, 2])
    lumas = [np.array(Image.fromarray(pixels).convert("L")) for _, pixels in images]
    padded = [np.pad(luma, ((0, -luma.shape[0] % 4), (0, 0)), mode="edge") for luma in lumas]
    with torch.no_grad():
        outputs = [built(torch.from_numpy(luma)[None, None].float() / 255) for luma in padded]
    stored = [
        np.rint(output.reconstruction[0, 0].numpy().clip(0, 1) * 255).astype(np.uint8)[: luma.shape[0]]
        for output, luma in zip(outputs, lumas, strict=True)
    ]
    psnr = [peak_signal_noise_ratio(*pair, data_range=255) for pair in zip(lumas, stored, strict=True)]
    assert result.psnr_db == pytest.approx(psnr)
    expected = structural_similarity(
        lumas[0], stored[0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255,
        full=True,
    )[1][5:-5, 5:-5].mean()  # fmt: skip
    assert result.ssim[0] == pytest.approx(expected)
    # Bits are per pixel, not per sample: 4 bits for 4 x 4 pixels.
    assert result.to_dict()["bits_per_pixel"] == pytest.approx(
        sum([1024, 1024, 512]) / sum([4096, 4096, 1920])
    )
    for sample, number in zip(result.samples, (0, 2), strict=True):
        np.testing.assert_array_equal(sample.original, lumas[number])
        np.testing.assert_array_equal(sample.reconstruction, stored[number])


@pytest.mark.parametrize("defaults", ["autocast", "meta device", "double precision"])
def test_figures_do_not_depend_on_the_callers_autocast_and_defaults(defaults: str) -> None:
    built, images = model(), pictures((64, 64), (32, 50))
    expected = evaluate(built, images).to_dict()
    before = torch.get_default_dtype()
    contexts = {"autocast": torch.autocast("cpu", dtype=torch.bfloat16), "meta device": torch.device("meta")}
    try:
        if defaults == "double precision":
            torch.set_default_dtype(torch.float64)
        with contexts.get(defaults, nullcontext()):
            result = evaluate(built, images).to_dict()
    finally:
        torch.set_default_dtype(before)
    assert result == expected


def test_the_smallest_images_are_measured() -> None:
    images = pictures((1, 1), (3, 1))
    result = evaluate(model(), images)
    assert result.ssim == result.ms_ssim == (None, None)
    assert all(value > 0 for value in result.psnr_db)
