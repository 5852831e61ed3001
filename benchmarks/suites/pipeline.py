"""From JPEG files on disk to batches of crops, against a DataLoader as a user would write it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
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

RESIZE, CROP, BATCH = 160, 128, 16


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
    """Time epochs: from files that were never decoded before, and from those in the cache.

    Whole epochs, from the first request to the last batch, so that neither side prepares its next batches in
    the other's time. The loader's workers stay from one epoch to the next.

    Args:
        quick: fewer rounds.
        folder: of JPEG files.
    """
    data = Crops(folder)
    loader = DataLoader(
        data, batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    images = len(loader) * BATCH
    cases = []
    for title, cache_mib in (("nothing cached", 0), ("decoded images cached", 2048)):
        calls: dict[str, Callable[[], object]] = {
            "flatvq": _epochs(folder, cache_mib, len(loader)),
            "other": partial(deque, loader, maxlen=0),
        }
        taken = alternate(calls, seconds=4 if quick else 40, rounds=30)
        per_image = {name: [value / images for value in values] for name, values in taken.items()}
        cases.append(
            {
                "case": f"input pipeline, JPEG to {CROP} px crops, {title}, an image",
                "against": "DataLoader of two workers, Pillow's full decode and resize",
                "target": 2,
                "same": "both scale the shorter side, crop at random and mirror half; flatvq's draws repeat",
                **compared(per_image),
            }
        )
    return cases


def _epochs(folder: Path, cache_mib: int, steps: int) -> Callable[[], object]:
    recipe = DataRecipe(source="folder", path=str(folder), resize=RESIZE, crop=CROP, cache_mib=cache_mib)
    crops = TrainingCrops(open_data(recipe).training, recipe, seed=0, batch_size=BATCH)
    starts = count(0, steps)

    def epoch() -> None:
        start = next(starts)
        deque(crops.batches(start, start + steps), maxlen=0)

    return epoch
