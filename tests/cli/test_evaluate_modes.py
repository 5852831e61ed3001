"""`flatvq evaluate --against`, `--text` and `--detail`: what is printed and written, and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from flatvq.codec.identity import tokenizer_digest
from flatvq.codec.storage import save_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.evaluate import legibility
from flatvq.evaluate.legibility import Reader
from flatvq.model import build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
MODULE = """
import torch
from flatvq.tokenizers import Preprocess, Tokenizer, TokenizerLevel

class Coarse(Tokenizer):
    levels = (TokenizerLevel(16, 1, (3,)),)
    preprocess = Preprocess(resize=0, crop=48)
    def encode(self, images):
        return ((images * 15).round().long(),)
    def decode(self, indices):
        return indices[0].float() / 15
    def inference_tensors(self):
        return {}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with pictures, a saved tokenizer and a module with another the working folder."""
    (tmp_path / "pictures").mkdir()
    for number, left in enumerate((60, 180, 200)):
        crop = np.ascontiguousarray(astronaut()[100:170, left : left + 64])
        Image.fromarray(crop).save(tmp_path / f"pictures/{number}.png")
    recipe = ModelRecipe(width=8, residual_width=4, levels=(LevelRecipe(codebook_size=64, code_dim=4),))
    sections = {"model": recipe.model_dump(mode="json"), "preprocess": {"resize": 0, "crop": 32}}
    save_tokenizer(tmp_path / "saved", build_vqvae(recipe, CodebookRecipe(), seed=0).eval(), sections)
    (tmp_path / "coarse_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "coarse_module", raising=False)
    return tmp_path


@pytest.mark.usefixtures("place")
def test_another_library_beside_a_codec_with_all_files(run_flatvq: Run) -> None:
    words = ["--data", "pictures", "--against", "webp,jpeg", "--detail", "--out", "out"]
    code, out, err = run_flatvq("evaluate", "python:coarse_module:Coarse", *words)
    assert (code, err) == (0, "")
    assert "WebP" in out
    assert "tokenizer minus codec" in out
    assert "2 to 4" in out
    written = json.loads(Path("out/evaluation.json").read_text())
    assert written["tokenizer"] == "python:coarse_module:Coarse"
    assert (written["against"]["crop"], written["detail"]["side"]) == (48, 48)
    assert written["against"]["tokenizer"]["bytes_per_image"] == {"nominal": 48 * 48 * 3 * 4 / 8}
    for name in ("rate-distortion", "detail"):
        assert ElementTree.parse(f"out/{name}.svg").getroot().tag.endswith("svg")
    with Image.open("out/pictures.png") as grid:
        assert grid.width > 4 * 48
    code, out, _ = run_flatvq("evaluate", "python:coarse_module:Coarse", "--detail", "--json")
    assert code == 0
    octaves = [row["gratings"] for row in json.loads(out)["detail"]["octaves"]]
    assert octaves == [row["gratings"] for row in written["detail"]["octaves"]]


@pytest.mark.usefixtures("place")
def test_whole_images_are_compared_without_warnings_and_the_tokenizer_is_named_as_given(
    run_flatvq: Run,
) -> None:
    words = ("--data", "pictures", "--full")
    code, out, err = run_flatvq("evaluate", "saved", *words, "--against", "jpeg,webp")
    assert (code, err) == (0, "")
    assert out.count("do not fit") <= 1
    code, out, _ = run_flatvq("evaluate", "flatvq-f8", "--data", "pictures", "--crop", "16")
    assert (code, out.splitlines()[0].strip()) == (0, "flatvq-f8")
    code, out, _ = run_flatvq("evaluate", "flatvq-f8", "--data", "pictures", "--crop", "16", "--json")
    assert json.loads(out)["run"] == "flatvq-f8"


@pytest.mark.usefixtures("place")
def test_a_prior_gives_a_second_table(run_flatvq: Run) -> None:
    model = load_tokenizer("saved")
    crops = [np.asarray(Image.open(path)) for path in sorted(Path("pictures").iterdir())]
    record, arrays = fit_prior(model, encode_images(model, crops), "order-0")
    assert record.tokenizer == tokenizer_digest(model).hex()
    save_prior(Path("saved"), record, arrays)
    code, out, _ = run_flatvq("evaluate", "saved", "--data", "pictures", "--against", "webp", "--json")
    result = json.loads(out)["against"]
    assert code == 0
    assert result["prior"] == "order-0"
    assert result["crop"] == 32
    sizes, rows = result["tokenizer"]["bytes_per_image"], result["at_equal_bytes"]
    assert sizes["collection"] < sizes["file"]
    assert rows.keys() == {"nominal", "file"}
    code, out, _ = run_flatvq(
        "evaluate", "saved", "--data", "pictures", "--against", "webp", "--collection", "--out", "out"
    )
    assert code == 0
    assert "codecs within its bytes in one .fvqs file" in " ".join(out.split())
    written = json.loads(Path("out/evaluation.json").read_text())["against"]["at_equal_bytes"]
    assert written.keys() == {"nominal", "file", "collection"}
    for budget in ("nominal", "file"):
        row = rows[budget][0]
        assert row["images"] + row["images_that_do_not_fit"] == 3
        if row["images"]:
            assert row["bytes_per_image"] <= np.ceil(sizes[budget])


@pytest.mark.usefixtures("place")
def test_text_is_read_without_images(run_flatvq: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legibility, "SIZES", (16,))
    monkeypatch.setattr(legibility, "load_reader", lambda: Reader("blind 1", lambda line: ""))
    code, out, _ = run_flatvq("evaluate", "saved", "--text", "--crop", "128", "--json")
    (row,) = json.loads(out)["text"]["sizes"]
    assert code == 0
    assert row["character_error_rate"]["reconstruction"]["mean"] == 1
    assert not row["read_reliably"]
    code, out, _ = run_flatvq("evaluate", "saved", "--text", "--crop", "128", "--out", "out")
    assert "original not readable" in out
    assert Path("out/text.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["python:coarse_module:Coarse", "--data", "pictures"], "add --against, --text or --detail"),
        (["saved", "--data", "pictures", "--limit", "2"], "--limit is given without --against, --text"),
        (["saved", "--data", "pictures", "--out", "x"], "--out is given without --against, --text"),
        (["saved", "--against", "jpeg"], "missing option '--data'"),
        (["saved", "--data", "pictures", "--collection"], "--collection is given without --against"),
        (["saved", "--data", "pictures", "--against", "jpg"], "did you mean 'jpeg'?"),
        (["saved", "--data", "pictures", "--detail", "--full"], "--detail measures square crops"),
        (["saved", "--text", "--crop", "16"], "pages of 16 pixels are too small for text"),
    ],
)
@pytest.mark.usefixtures("place")
def test_errors_are_one_line(run_flatvq: Run, words: list[str], message: str) -> None:
    code, out, err = run_flatvq("evaluate", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
