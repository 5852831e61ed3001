"""From JPEG files on disk to batches of crops, beside a DataLoader as a user would write it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import alternate, compared
from flatvq.data import TrainingCrops, open_data
from flatvq.recipe import DataRecipe

__all__ = ["run"]

RESIZE, CROP, BATCH, BATCHES = 160, 128, 16, 20


class Crops(Dataset[torch.Tensor]):
    """Full decode, resize of the shorter side, random crop and mirroring: each sample by itself."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(self.files[index]).convert("RGB")
        scale = RESIZE / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        pixels = np.array(image.resize(size, Image.Resampling.BICUBIC))
        top = int(torch.randint(pixels.shape[0] - CROP + 1, ()))
        left = int(torch.randint(pixels.shape[1] - CROP + 1, ()))
        cut = pixels[top : top + CROP, left : left + CROP]
        if torch.rand(()) < 0.5:
            cut = cut[:, ::-1]
        return torch.from_numpy(cut.copy()).permute(2, 0, 1)


def run(quick: bool, folder: Path) -> list[dict[str, Any]]:
    """Time batches from files that were never decoded before, and from those in the cache.

    Args:
        quick: fewer rounds.
        folder: of JPEG files.
    """
    cold, warm = _flatvq(folder, cache_mib=0), _flatvq(folder, cache_mib=2048)
    loader = _forever(Crops(folder))
    cases = []
    for title, ours in (("nothing cached", cold), ("decoded images cached", warm)):
        calls = {"flatvq": partial(_take, ours), "other": partial(_take, loader)}
        taken = alternate(calls, seconds=8 if quick else 40, rounds=20)
        per_image = {name: [value / (BATCH * BATCHES) for value in values] for name, values in taken.items()}
        cases.append(
            {
                "case": f"input pipeline, JPEG to {CROP} px crops, {title}, seconds an image",
                "against": "DataLoader of two workers, Pillow's full decode and resize",
                "target": 2,
                "same": "both scale the shorter side, crop at random and mirror half; flatvq's draws repeat",
                **compared(per_image),
            }
        )
    return cases


def _flatvq(folder: Path, cache_mib: int) -> Iterator[Any]:
    recipe = DataRecipe(source="folder", path=str(folder), resize=RESIZE, crop=CROP, cache_mib=cache_mib)
    crops = TrainingCrops(open_data(recipe).training, recipe, seed=0, batch_size=BATCH)
    return crops.batches(0, 10**6)


def _forever(data: Crops) -> Iterator[torch.Tensor]:
    while True:
        yield from DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True)


def _take(batches: Iterator[Any]) -> None:
    for _ in range(BATCHES):
        next(batches)
