"""`flatvq evaluate`: the white level of deep images, and errors about unusable data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq import cli
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import TrialRecipe

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Evaluate a small tokenizer on the folder `pictures`; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    small = {"model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]}}
    recipe = TrialRecipe.model_validate({**small, "data": {"crop": 32}})
    sections = {
        "model": recipe.model.model_dump(mode="json"),
        "codebook": recipe.codebook.model_dump(mode="json"),
    }
    save_tokenizer(Path("run/model"), build_vqvae(recipe.model, recipe.codebook, seed=0).eval(), sections)

    def run(*options: str, white_level: int = 0) -> tuple[int, str, str]:
        trained = recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"white_level": white_level})}
        )
        Path("run/recipe.json").write_text(trained.model_dump_json())
        monkeypatch.setattr(
            sys, "argv", ["flatvq", "evaluate", "run", "--data", "pictures", "--json", *options]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_white_level_is_the_option_or_the_default_of_the_run(evaluate: Run) -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (40, 44)).astype(np.uint16)
    Image.fromarray(samples).save("pictures/a.png")
    figures = []
    for options, own in (((), 0), ((), 4095), (("--white-level", "4095"), 0), (("--white-level", "0"), 4095)):
        code, out, _ = evaluate(*options, white_level=own)
        assert code == 0
        figures.append(json.loads(out))
    dark, own, given, dark_again = figures
    assert [result["white_level"] for result in figures] == [0, 4095, 4095, 0]
    assert own["mse"] == given["mse"] != dark["mse"]
    assert dark["mse"] == dark_again["mse"]
    assert "set data.white_level to 4095" in dark["files"][0]["reason"]
    assert "white is 4095 by data.white_level" in own["files"][0]["reason"]


def test_a_crop_that_is_too_large(evaluate: Run) -> None:
    Image.new("RGB", (40, 44), "teal").save("pictures/a.png")
    code, out, err = evaluate("--crop", "60000")
    assert (code, out) == (2, "")
    assert "'a.png' (60000 x 66000 pixels once scaled to crop 60000: the limit" in " ".join(err.split())
    assert "lower the crop" in " ".join(err.split())
