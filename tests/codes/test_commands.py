"""`flatvq encode` and `flatvq decode`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import flatvq
from flatvq.codes import CodeDataset, decode_codes, encode_images
from flatvq.codes.decoding import _path_of
from flatvq.errors import FlatvqError

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Run) -> Run:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_flatvq


def test_images_become_codes_and_images_again(
    run: Run, tokenizer_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "zz.png").write_bytes(b"\x89PNG")
    code, out, err = run("encode", tokenizer_folder, pictures, "codes", "--shard-size", 9, "--device", "cpu")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("codes: 23 images in 3 shards, ")
    assert second.startswith("unreadable: zz.png (")
    assert run("decode", tokenizer_folder, "codes", "images") == (0, "images: 23 images\n", "")
    tokenizer = flatvq.load(tokenizer_folder)
    for item in CodeDataset(tmp_path / "codes"):
        decoded = tokenizer.decode([level[None] for level in item["levels"]])[0]
        expected = decoded.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        with Image.open(tmp_path / "images" / f"{item['key']}.png") as image:
            assert np.abs(np.array(image).astype(int) - expected).max() <= 1  # batches round differently
    assert len([*(tmp_path / "images").rglob("*.*")]) == 23


def test_whole_images_keep_their_size(run: Run, tokenizer_folder: Path, pictures: Path) -> None:
    assert run("encode", tokenizer_folder, pictures, "codes", "--crop", 0)[0] == 0
    assert run("decode", tokenizer_folder, "codes", "images")[0] == 0
    for path in pictures.rglob("*.*"):
        with (
            Image.open(path) as image,
            Image.open(Path("images", f"{path.relative_to(pictures)}.png")) as other,
        ):
            assert image.size == other.size


def test_json_is_the_manifest(run: Run, tokenizer_folder: Path, pictures: Path) -> None:
    code, out, _ = run("encode", tokenizer_folder, pictures, "codes", "--size", 48, "--crop", 32, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("codes/manifest.json").read_text())
    assert json.loads(out)["preprocess"]["resize"] == 48


def test_progress_goes_to_stderr(
    run: Run, tokenizer_folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal, lines of progress appear from time to time. They must not mix with the JSON."""
    monkeypatch.setattr("flatvq.cli.progress._LINE_EVERY_SECONDS", 0.0)
    code, out, err = run("encode", tokenizer_folder, pictures, "codes", "--batch-size", 4, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("codes/manifest.json").read_text())
    assert "encoding: 4 of 23 images" in err
    assert err.splitlines()[-1].startswith("encoding: 23 of 23 images")
    assert "decoding: " in run("decode", tokenizer_folder, "codes", "images")[2]
    lines = run("compress", tokenizer_folder, pictures)[2].splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"compressing: {done} of 23 images" for done in range(1, 24)
    ]
    monkeypatch.setenv("RANK", "1")
    assert run("compress", tokenizer_folder, pictures, "--force")[2] == ""


def test_errors_are_one_line(run: Run, tokenizer_folder: Path, pictures: Path, tmp_path: Path) -> None:
    assert run("encode", tokenizer_folder, pictures, "codes")[0] == 0
    other = tmp_path / "other"
    tokenizer = flatvq.load(tokenizer_folder)
    with torch.no_grad():
        tokenizer.state_dict()["encoders.0.0.bias"][0] += 1
    tokenizer.save_pretrained(other)
    for words, what in (
        (("encode", "nowhere", pictures, "x"), "no tokenizer at 'nowhere'"),
        (("encode", tokenizer_folder, "nowhere", "x"), "no folder at 'nowhere'"),
        (("encode", tokenizer_folder, pictures, "x", "--device", "cuda:99"), "device 'cuda:99' is not"),
        (("encode", tokenizer_folder, pictures, "codes", "--crop", 40), "preprocess crop 32, now 40"),
        (("encode", other, pictures, "codes"), "tokenizer id"),
        (("decode", other, "codes", "x"), "the codes in 'codes' are of tokenizer"),
        (("decode", tokenizer_folder, pictures, "x"), "no manifest.json in"),
    ):
        code, _, err = run(*words)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert what in err


def test_a_dataset_is_encoded(run: Run, tokenizer_folder: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    (tmp_path / "data").mkdir()
    files = [path.read_bytes() for path in sorted(pictures.rglob("*.*"))[:5]]
    pq.write_table(pa.table({"picture": files}), tmp_path / "data" / "test.parquet")
    words = ("encode", tokenizer_folder, "data", "codes", "--dataset", "--split", "test")
    assert run(*words, "--image-column", "picture")[0] == 0
    assert [item["key"] for item in CodeDataset("codes")] == [f"test/{row}" for row in range(5)]
    code, _, err = run(*words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "has no column 'image'" in err


def test_one_channel_is_encoded_and_decoded(pictures: Path, tmp_path: Path) -> None:
    from flatvq.model import build_vqvae, save_tokenizer
    from flatvq.recipe import CodebookRecipe, ModelRecipe

    recipe = ModelRecipe.model_validate({"channels": 1, "width": 8, "residual_width": 4})
    config = {"model": recipe.model_dump(mode="json"), "preprocess": {"resize": 0, "crop": 32}}
    save_tokenizer(tmp_path / "grey", build_vqvae(recipe, CodebookRecipe()).eval(), config)
    tokenizer = flatvq.load(tmp_path / "grey")
    encode_images(tokenizer, pictures, tmp_path / "codes")
    assert decode_codes(tokenizer, tmp_path / "codes", tmp_path / "images") == 23
    with Image.open(tmp_path / "images" / "000.jpg.png") as image:
        assert (image.mode, image.size) == ("L", (32, 32))
    with Image.open(pictures / "000.jpg") as image:
        luma = np.array(image.convert("RGB").convert("L"))[4:36, 9:41]
    (expected,) = tokenizer.encode(torch.from_numpy(luma)[None, None].float() / 255)
    assert torch.equal(CodeDataset(tmp_path / "codes")[0]["levels"][0], expected[0])


@pytest.mark.parametrize("key", ["", "../a", "/etc/passwd", "a/../../b", "C:\\a", "a\0b"])
def test_keys_do_not_lead_out_of_the_folder(key: str) -> None:
    with pytest.raises(FlatvqError, match=r"is not a path inside of the folder|are not printable"):
        _path_of(key)
