"""The terminal output for a metric that is not defined for every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flatvq.cli import main
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe


def test_metrics_that_an_icon_does_not_define_are_shown_as_undefined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ModelRecipe(width=8, residual_width=2, levels=(LevelRecipe(codebook_size=16, code_dim=4),))
    model = build_vqvae(recipe, CodebookRecipe())
    model(torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    save_tokenizer(tmp_path / "tokenizer", model, {"model": recipe.model_dump()})
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for name, side in (("icon.png", 8), ("picture.png", 64)):
        picture = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "pictures" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["flatvq", "evaluate", "tokenizer", "--data", "pictures", "--full"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    rows = {row[0]: row[1:] for row in map(str.split, capsys.readouterr().out.splitlines()) if len(row) > 1}
    assert rows["ssim"] == rows["ms_ssim"] == ["undefined"]
    assert rows["images"] == ["2"]
    assert float(rows["psnr_db"][0]) > 0
    assert rows["crop"] == ["whole", "images"]
    assert " ".join(rows["undefined:"]) == "icon.png: too small for SSIM, so there is no mean"
