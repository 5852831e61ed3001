"""Small pictures, and a place for dataset caches that is not the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Make a smooth colour picture, different for each number: uint8 [H, W, 3]."""

    def make(number: int, height: int = 20, width: int = 24) -> np.ndarray:
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))

    return make


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Path:
    """A folder of 30 PNG files in three sub-folders."""
    for number in range(30):
        path = tmp_path / "images" / f"class{number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    return tmp_path / "images"
