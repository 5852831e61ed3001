"""A tokenizer beside image codecs: every figure is computed again from files and arrays."""

from __future__ import annotations

import json
import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, chelsea
from skimage.metrics import structural_similarity
from tests.evaluate.filters import Filter, gaussian_blur

from flatvq.codec import Codec
from flatvq.errors import FlatvqError
from flatvq.evaluate.against import evaluate_against
from flatvq.evaluate.frechet import FeatureStatistics, frechet_distance, frechet_distance_of
from flatvq.evaluate.image_codecs import codecs_named
from flatvq.evaluate.quality import Quality
from flatvq.evaluate.rate_distortion import bits_at_psnr
from flatvq.evaluate.recognition import load_classifier
from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe
from flatvq.tokenizers import Preprocess, VQVAETokenizer

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, place in enumerate([(60, 200), (120, 180), (300, 60)]):
        crop = astronaut()[place[0] : place[0] + 64, place[1] : place[1] + 64]
        Image.fromarray(crop).save(folder / f"{number}.png")
    blocks = 255 * np.random.default_rng(0).integers(0, 2, (16, 16, 3), np.uint8)
    Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(folder / "blocks.png")
    return folder


@pytest.fixture
def tokenizer() -> VQVAETokenizer:
    recipe = ModelRecipe(
        width=8, residual_width=4, levels=(LevelRecipe(codebook_size=100, code_dim=4, downsample=2),)
    )
    model = build_vqvae(recipe, CodebookRecipe(), seed=0).eval()
    return VQVAETokenizer(model, Preprocess(crop=64), {"model": recipe.model_dump(mode="json")})


def decibels(stored: np.ndarray, original: np.ndarray) -> float:
    return -10 * math.log10(np.mean((stored / 255.0 - original / 255.0) ** 2))


def test_every_figure_follows_from_the_files(pictures: Path, tokenizer: VQVAETokenizer) -> None:
    codec = Codec(tokenizer)
    result, columns = evaluate_against(
        tokenizer, pictures, codecs_named("jpeg,webp"), crop=64, own_codec=codec
    )
    json.dumps(result, allow_nan=False)
    images = [np.array(Image.open(path)) for path in sorted(pictures.iterdir())]
    with torch.no_grad():
        stored = [
            np.rint(
                tokenizer(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
                .reconstruction[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
            )
            for image in images
        ]  # fmt: skip
    own = [decibels(*pair) for pair in zip(stored, images, strict=True)]
    assert result["images"] == 4
    assert result["tokenizer"]["metrics"]["psnr_db"] == pytest.approx(np.mean(own), abs=1e-4)
    nominal = 32 * 32 * math.log2(100) / 8
    sizes = result["tokenizer"]["bytes_per_image"]
    assert sizes["nominal"] == pytest.approx(nominal)
    assert sizes["file"] == np.mean([len(codec.compress(image)) for image in images])
    named = [("", image) for image in images]
    assert sizes["collection"] == len(codec.compress_collection(named)) / 4
    for row, form in zip(result["at_equal_bytes"]["nominal"], ("JPEG", "WEBP"), strict=True):
        settings = {"optimize": True, "progressive": True} if form == "JPEG" else {"method": 6}
        best: list[tuple[float, float, int]] = []
        for image, value in zip(images, own, strict=True):
            fitting = []
            for quality in range(form == "JPEG", 101):
                file = BytesIO()
                Image.fromarray(image).save(file, form, quality=quality, **settings)
                if file.tell() <= math.ceil(nominal):
                    decoded = np.array(Image.open(file).convert("RGB"))
                    fitting.append((decibels(decoded, image), value, file.tell()))
            best += fitting[-1:]
        assert row["images"] == len(best)
        assert row["images_that_do_not_fit"] == 4 - len(best)
        assert row["bytes_per_image"] == np.mean([size for _, _, size in best])
        assert row["bits_per_pixel"] == pytest.approx(8 * row["bytes_per_image"] / 64**2)
        assert row["metrics"]["psnr_db"] == pytest.approx(np.mean([psnr for psnr, _, _ in best]), abs=1e-4)
        difference = row["tokenizer_minus_codec_psnr_db"]["mean"]
        assert difference == pytest.approx(np.mean([value - psnr for psnr, value, _ in best]), abs=1e-4)
    assert [column.name for column in columns] == ["0.png", "1.png", "2.png", "blocks.png"]
    assert np.array_equal(columns[0].pictures["original"], images[0])
    (jpeg, webp) = result["at_equal_bytes"]["nominal"]
    assert (jpeg["images"], webp["images"]) == (3, 4)
    assert columns[3].pictures["jpeg"] is None  # of the blocks


def test_a_collection_is_compared_at_its_real_bytes(pictures: Path, tokenizer: VQVAETokenizer) -> None:
    codec = Codec(tokenizer)
    result, _ = evaluate_against(
        tokenizer, pictures, codecs_named("webp"), crop=64, own_codec=codec, collection=True
    )
    images = [np.array(Image.open(path)) for path in sorted(pictures.iterdir())]
    streams = [len(codec.to_streams(image).streams[0]) for image in images]
    whole = codec.compress_collection(("", image) for image in images)
    # Magic, version, flags, identity, levels, count and checksum; one size, and a byte for "the same".
    lengths = [1 if stream < 128 else 2 for stream in streams]
    assert len(whole) == 4 + 1 + 1 + 8 + 1 + 1 + 4 + 2 + 3 + sum(lengths) + sum(streams)
    assert result["tokenizer"]["bytes_per_image"]["collection"] == len(whole) / 4
    (row,) = result["at_equal_bytes"]["collection"]
    fitting = []
    for number, image in enumerate(images):
        limit = math.ceil((2 if number == 0 else 1) + lengths[number] + streams[number] + 20 / 4)
        sizes = []
        for quality in range(101):
            file = BytesIO()
            Image.fromarray(image).save(file, "WEBP", quality=quality, method=6)
            sizes += [file.tell()] if file.tell() <= limit else []
        fitting += sizes[-1:]
    assert row["images"] == len(fitting)
    assert row["bytes_per_image"] == (np.mean(fitting) if fitting else None)


def test_other_libraries_have_no_collections(pictures: Path) -> None:
    grey = Filter(gaussian_blur(0.7), channels=1)
    with pytest.raises(FlatvqError, match=r"only tokenizers of flatvq write \.fvqs files"):
        evaluate_against(grey, pictures, codecs_named("jpeg"), crop=48, collection=True)


def test_any_tokenizer_and_a_part_of_the_images(pictures: Path) -> None:
    grey = Filter(gaussian_blur(0.7), channels=1)
    result, columns = evaluate_against(grey, pictures, codecs_named("jpeg"), crop=48, limit=2)
    assert result["images"] == 2
    assert result["prior"] is None
    assert result["evaluation_protocol"] == "flatvq-1/crop-48/own-size/grey"
    assert result["tokenizer"]["bytes_per_image"] == {"nominal": 48 * 48}
    (row,) = result["at_equal_bytes"]["nominal"]
    assert row["images"] == 2  # with a byte a pixel, any photograph fits
    jpeg = columns[0].pictures["jpeg"]
    assert jpeg is not None
    assert jpeg.shape == (48, 48, 1)


def test_a_perfect_tokenizer(pictures: Path) -> None:
    result, _ = evaluate_against(Filter(lambda images: images), pictures, codecs_named("jpeg"), crop=64)
    metrics = result["tokenizer"]["metrics"]
    assert metrics["psnr_db"] == 100
    assert metrics["ssim"] == pytest.approx(1)
    assert metrics["ms_ssim"] is None  # 64 pixels are too few
    assert metrics.get("efficientnet_lite0_top1_agreement", 1) == 1
    assert metrics.get("efficientnet_lite0_frechet", 0) == pytest.approx(0, abs=1e-6)


def test_quality_equals_that_of_the_packages(tmp_path: Path) -> None:
    ssimulacra2 = pytest.importorskip("ssimulacra2")
    original = np.ascontiguousarray(chelsea()[20:276, 100:356])
    noise = np.random.default_rng(0).integers(-20, 21, original.shape)
    stored = np.clip(original + noise, 0, 255).astype(np.uint8)
    for name, image in (("original", original), ("stored", stored)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    quality = Quality()
    values = quality.compare(original, stored, quality.features_of(original))
    paths = (str(tmp_path / "original.png"), str(tmp_path / "stored.png"))
    assert values["ssimulacra2"] == pytest.approx(ssimulacra2.compute_ssimulacra2(*paths))
    assert values["ssimulacra2"] != pytest.approx(ssimulacra2.compute_ssimulacra2(*reversed(paths)), abs=0.1)
    assert values["psnr_db"] == pytest.approx(decibels(stored, original), abs=1e-4)
    expected = structural_similarity(
        stored, original, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
    )
    assert values["ssim"] == pytest.approx(expected, abs=2e-3)
    small = quality.compare(original[:224], stored[:224], quality.features_of(original[:224]))
    assert small["ssimulacra2"] is None


def test_the_classifier_is_that_of_its_package() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    classifier = load_classifier()
    cat = torch.from_numpy(
        np.array(Image.fromarray(chelsea()[:, 75:375]).resize((224, 224), Image.Resampling.BICUBIC))
    )
    images = cat.permute(2, 0, 1)[None]
    features, classes = classifier(images)
    assert features.shape == (1, 1280)
    with torch.no_grad():
        logits = classifier.network((images.float() - 127) / 128)
    assert classes.item() == logits.argmax().item()
    assert 281 <= classes.item() <= 285  # the cats of ImageNet


@pytest.mark.parametrize("counts", [(7, 9), (30, 25), (2, 2)])
def test_the_frechet_distance_of_few_images(counts: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(count, 20, generator=generator) * (1 + count) + count for count in counts)
    expected = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    assert frechet_distance_of(a, b) == pytest.approx(expected, rel=1e-6)


def test_rates_between_points_follow_the_curve() -> None:
    curve = [{"bits_per_pixel": 0.1 * 2**n, "psnr_db": 20.0 + 3 * n} for n in range(4)]
    assert bits_at_psnr(curve, 24.5) == pytest.approx(0.1 * 2**1.5)
    assert bits_at_psnr(curve, 29.0) == pytest.approx(0.8)
    assert bits_at_psnr(curve, 19.9) is None
    assert bits_at_psnr([curve[0], curve[0]], 20.0) is None
