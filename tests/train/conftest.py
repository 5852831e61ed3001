"""Small trainings on generated images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq.recipe import TrialRecipe, parse

SmallRecipe = Callable[..., TrialRecipe]
VECTOR_LEVELS = ({"downsample": 4, "codebook_size": 32}, {"downsample": 2, "codebook_size": 16})
OTHER_LEVELS = (
    {"downsample": 4, "quantizer": "residual", "stages": 3, "codebook_size": 8},
    {"downsample": 2, "quantizer": "lookup-free"},
)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of 24 small images with gradients, edges and noise."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:48, 0:56] / 48
    for number in range(24):
        waves = [np.sin(6 * (a * rows + b * columns) + c) for a, b, c in random.uniform(-3, 3, (3, 3))]
        picture = 128 + 80 * np.stack(waves, axis=-1) + random.normal(0, 8, (48, 56, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def small_recipe(photographs: Path) -> SmallRecipe:
    """A two-level trial of about two seconds, with init, replacement, validation and checkpoints."""

    def make(
        levels: Sequence[dict[str, object]] = VECTOR_LEVELS, hierarchy: str = "parallel", **train: object
    ) -> TrialRecipe:
        recipe = _small_recipe(photographs, levels, train)
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"hierarchy": hierarchy})})

    return make


def _small_recipe(folder: Path, levels: Sequence[dict[str, object]], train: dict[str, object]) -> TrialRecipe:
    settings = {
        "steps": 40,
        "batch_size": 4,
        "validate_every": 20,
        "checkpoint_every": 5,
        "record_every": 1,
        "precision": "float32",
        **train,
    }
    return parse(
        TrialRecipe,
        {
            "data": {"source": "folder", "path": str(folder), "crop": 32, "validation_share": 0.2},
            "model": {
                "width": 8,
                "residual_width": 4,
                "levels": [{**level, "code_dim": 4} for level in levels],
            },
            "codebook": {"init": {"kind": "kmeans", "vectors_per_code": 20}, "replacement": {"every": 6}},
            "train": settings,
            "evaluate": {"samples": 2},
            "seed": 3,
        },
    )
