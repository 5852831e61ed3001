"""A small tokenizer with two levels, and folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flatvq
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe

RECIPE = ModelRecipe.model_validate(
    {
        "levels": [
            {"codebook_size": 50, "code_dim": 4},
            {"downsample": 2, "quantizer": "residual", "stages": 2, "codebook_size": 9, "code_dim": 3},
        ],
        "width": 8,
        "residual_width": 4,
    }
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer whose codebooks are drawn from data, with crops of 32 pixels."""
    model = build_vqvae(RECIPE, CodebookRecipe(), seed=1)
    model(torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    folder = tmp_path_factory.mktemp("tokenizer") / "model"
    config = {"model": RECIPE.model_dump(mode="json"), "preprocess": {"resize": 0, "crop": 32}}
    save_tokenizer(folder, model.eval(), config)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> flatvq.VQVAETokenizer:
    return flatvq.load(tokenizer_folder)


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Write pictures of different sizes and formats, half of them in a sub-folder."""
    random = np.random.default_rng(seed)
    (folder / "cats").mkdir(parents=True)
    for number in range(count):
        coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((50 + number % 3, 41), Image.Resampling.BICUBIC)
        name = f"{number:03d}{'.jpg' if number % 5 == 0 else '.png'}"
        picture.save(folder / ("cats" if number % 2 else ".") / name)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures", 23)
    return tmp_path / "pictures"
