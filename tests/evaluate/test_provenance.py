"""The record of an evaluation identifies its images, tokenizer and perceptual networks."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flatvq
from flatvq import cli
from flatvq.data import open_folder
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe
from flatvq.versions import TRAINING_PROTOCOL, commit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The working folder: `tokenizer`, and two pictures in `pictures`."""
    codebook = CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1), replacement=None)
    recipe = ModelRecipe(levels=(LevelRecipe(codebook_size=16, code_dim=4),), width=8, residual_width=4)
    model = build_vqvae(recipe, codebook)
    model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    sections = {"model": recipe.model_dump(mode="json"), "codebook": codebook.model_dump(mode="json")}
    save_tokenizer(tmp_path / "tokenizer", model.eval(), sections)
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "pictures" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured_on(monkeypatch, capsys, *words: str) -> dict[str, object]:
    words = ("flatvq", "evaluate", "tokenizer", "--data", "pictures", "--crop", "32", "--json", *words)
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    record: dict[str, object] = json.loads(capsys.readouterr().out)["measured_on"]
    return record


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_it_names_everything_by_content(folder: Path, perceptual_weights: Path, monkeypatch, capsys) -> None:
    record = measured_on(monkeypatch, capsys)
    assert record == {
        "flatvq": flatvq.__version__,
        "commit": commit(),
        "training_protocol": TRAINING_PROTOCOL,
        "fingerprint": open_folder("pictures", crop=32).images.fingerprint,
        "tokenizer": sha256(folder / "tokenizer" / "model.safetensors"),
        "weights": {},
    }
    with_networks = measured_on(monkeypatch, capsys, "--weights", str(perceptual_weights))
    files = {path.name: sha256(path) for path in perceptual_weights.iterdir()}
    assert with_networks == {**record, "weights": files}
    assert len(files) == 3


def test_other_images_have_another_fingerprint(folder: Path, monkeypatch, capsys) -> None:
    before = measured_on(monkeypatch, capsys)
    Image.new("RGB", (40, 40), "red").save(folder / "pictures" / "b.png")
    after = measured_on(monkeypatch, capsys)
    assert after.pop("fingerprint") != before.pop("fingerprint")
    assert after == before
