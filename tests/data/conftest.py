"""Fixtures: small pictures, and a temporary cache for datasets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.dataset_files import COUNT, encoded


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


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the network, and cache datasets in a temporary folder."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets = pytest.importorskip("datasets")
        import huggingface_hub.constants
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def files(picture: Callable[..., np.ndarray]) -> list[bytes]:
    """PNG files, encoded."""
    return [encoded(picture(number)) for number in range(COUNT)]
