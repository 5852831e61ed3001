"""The pretrained tokenizers load by name, are small, and do what their records say."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import flatvq
from flatvq.codec import load_codec
from flatvq.errors import FlatvqError
from flatvq.evaluate.fidelity import psnr
from flatvq.tokenizers import local_folder, pretrained_names
from flatvq.tokenizers.pretrained import pretrained_folder

RECORDS = Path(__file__).parents[2] / "results" / "pretrained"
FACTORS = {"flatvq-f4": 4, "flatvq-f8": 8}
NAMES = sorted(FACTORS)


def photograph(side: int = 128) -> np.ndarray:
    return np.ascontiguousarray(data.chelsea()[60 : 60 + side, 100 : 100 + side])


def test_the_names_are_those_of_the_folders() -> None:
    assert pretrained_names() == NAMES
    assert pretrained_folder("../weights/flatvq-f4") is None
    assert pretrained_folder("") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_is_small_and_complete(name: str) -> None:
    folder = pretrained_folder(name)
    assert folder is not None
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "prior.json", "prior.safetensors", "README.md"}
    # In a wheel, which is a zip file.
    assert sum(len(zlib.compress(content)) for content in files.values()) < 5e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert flatvq.load(name).id in card
    assert "Training photographs" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_is_reconstructed(name: str) -> None:
    tokenizer = flatvq.load(name)
    (level,) = tokenizer.levels
    assert (level.codebook_size, level.factor) == (16384, FACTORS[name])
    images = torch.from_numpy(photograph()).permute(2, 0, 1)[None] / 255
    indices = tokenizer.encode(images)
    assert indices[0].shape == (1, 128 // level.factor, 128 // level.factor)
    assert len(indices[0].unique()) > 50
    with torch.no_grad():
        decoded = tokenizer.decode(indices).clamp(0, 1)
    mean_colour = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    quality, trivial = (float(psnr(each, images, data_range=1.0)[0]) for each in (decoded, mean_colour))
    assert quality > trivial + 6


@pytest.mark.parametrize("name", NAMES)
def test_the_prior_makes_files_smaller_than_nominal(name: str) -> None:
    coded, plain = load_codec(name), load_codec(name, prior=False)
    image = photograph()
    content = coded.compress(image)
    assert len(content) < 0.95 * len(plain.compress(image))
    assert np.array_equal(coded.decompress(content), plain.decompress(plain.compress(image)))


@pytest.mark.parametrize("name", NAMES)
def test_the_records_are_those_of_the_weights(name: str) -> None:
    prior = json.loads((local_folder(name) / "prior.json").read_text(encoding="utf-8"))
    record = json.loads((RECORDS / name / "prior.json").read_text(encoding="utf-8"))
    evaluation = json.loads((RECORDS / name / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["tokenizer_id"] == flatvq.load(name).id
    assert record["prior"] == prior
    bits = evaluation["against"]["tokenizer"]["bits_per_pixel"]
    assert bits["file"] < bits["nominal"] == pytest.approx(14 / FACTORS[name] ** 2)


def test_thumbnails_are_ahead_of_all_codecs_at_the_bytes_of_a_collection() -> None:
    record = json.loads((RECORDS / "flatvq-f4" / "thumbnails.json").read_text(encoding="utf-8"))
    assert record["tokenizer_id"] == flatvq.load("flatvq-f4").id
    rows = {row["codec"]: row for row in record["against"]["at_equal_bytes"]["collection"]}
    assert set(rows) == {"jpeg", "webp", "avif", "jxl"}
    for row in rows.values():
        fit = row["images"] > 0
        assert not fit or row["tokenizer_minus_codec_psnr_db"]["interval90"][0] > 0


def test_flatvq_f8_is_ahead_of_avif_as_the_readme_says() -> None:
    record = json.loads((RECORDS / "flatvq-f8" / "evaluation.json").read_text(encoding="utf-8"))["against"]
    bits = record["tokenizer"]["bits_per_pixel"]["file"]
    (avif,) = (row for row in record["at_equal_bytes"]["file"] if row["codec"] == "avif")
    assert avif["tokenizer_minus_codec_psnr_db"]["interval90"][0] > 0
    assert bits < record["bits_per_pixel_at_equal_psnr"]["avif"]
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{bits:.3f} bits per pixel, at a higher PSNR than AVIF files" in " ".join(readme.split())


def test_a_folder_comes_before_a_pretrained_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flatvq-f4").mkdir()
    with pytest.raises(FlatvqError, match=r"'flatvq-f4' holds no config\.json"):
        flatvq.load("flatvq-f4")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_copy_keeps_the_prior(dtype: str, tmp_path: Path) -> None:
    # The weights are stored in float16, so that rounding to float16 changes nothing.
    tokenizer = flatvq.load("flatvq-f8")
    tokenizer.save_pretrained(tmp_path, dtype=dtype)
    assert flatvq.load(tmp_path).id == tokenizer.id
    image = photograph(64)
    assert load_codec(tmp_path).compress(image) == load_codec("flatvq-f8").compress(image)
    with torch.no_grad():
        next(tokenizer.parameters()).mul_(1.01)
    tokenizer.save_pretrained(tmp_path, dtype=dtype)  # other weights, so the prior is no longer theirs
    assert not (tmp_path / "prior.json").exists()


@pytest.mark.slow
def test_commands_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Callable[..., tuple[int, str, str]]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.fromarray(photograph(64)).save("images/cat.png")
    for words in (
        ("compress", "flatvq-f8", "images/cat.png"),
        ("decompress", "flatvq-f8", "images/cat.fvq", "--out", "cat.png"),
        ("encode", "flatvq-f8", "images", "codes", "--size", "0", "--crop", "0"),
        ("decode", "flatvq-f8", "codes", "decoded"),
        ("doctor", "flatvq-f8"),
    ):
        code, _, errors = run_flatvq(*words)
        assert code == 0, errors
    assert np.array_equal(np.asarray(Image.open("cat.png")), np.asarray(Image.open("decoded/cat.png.png")))
