"""The fingerprint of a set of images: a function of the images' content and order, and of nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq.data import DataSplit, open_data, open_folder
from flatvq.data.photographs import Region, RegionImages
from flatvq.data.subset import set_aside
from flatvq.recipe import DataRecipe

Picture = Callable[..., np.ndarray]


def split(folder: Path, **changes: object) -> DataSplit:
    keys = {"source": "folder", "path": str(folder), "crop": 16, "validation_share": 0.2, **changes}
    return open_data(DataRecipe.model_validate(keys))


def fingerprints(data: DataSplit) -> tuple[str, str]:
    return data.training.fingerprint, data.validation.fingerprint


def test_it_is_the_hash_of_the_hashes_of_the_files(folder: Path) -> None:
    images = split(folder).training
    lines = [hashlib.sha256((folder / name).read_bytes()).hexdigest()[:32] + " 1\n" for name in images.names]
    assert images.fingerprint == hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def test_neither_place_nor_dates_count(folder: Path, tmp_path: Path) -> None:
    before = fingerprints(split(folder))
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    for number, file in enumerate(moved.rglob("*.png")):
        os.utime(file, (number, number))
        file.rename(file.with_suffix(".x"))
    (moved / "README").write_text("not an image")
    assert fingerprints(split(moved)) == before


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_one_changed_image_changes_its_side(folder: Path, picture: Picture, cache_mib: int) -> None:
    held_out = str(folder / "class2")
    before = fingerprints(split(folder, validation_path=held_out, cache_mib=cache_mib))
    pixels = picture(0)
    pixels[-1, -1] ^= 1
    Image.fromarray(pixels).save(folder / "class0" / "00.png")
    after = fingerprints(split(folder, validation_path=held_out, cache_mib=cache_mib))
    assert after[0] != before[0]
    assert after[1] == before[1]
    (folder / "class2" / "02.png").unlink()
    assert fingerprints(split(folder, validation_path=held_out, cache_mib=cache_mib))[1] != before[1]


def test_the_order_counts(folder: Path) -> None:
    before = open_folder(folder, crop=16).images
    (folder / "class0").rename(folder / "last")
    after = open_folder(folder, crop=16).images
    assert sorted(after.digests) == sorted(before.digests)
    assert after.fingerprint != before.fingerprint


def test_a_part_has_that_of_its_images(folder: Path) -> None:
    images = split(folder).training
    left, aside = set_aside(images, 0.3)
    assert len({images.fingerprint, left.fingerprint, aside.fingerprint}) == 3
    for part in (left, aside):
        apart = folder.parent / part.fingerprint
        apart.mkdir()
        for number, name in enumerate(part.names):
            shutil.copy(folder / name, apart / f"{number:02}.png")
        assert open_folder(apart, crop=16).images.fingerprint == part.fingerprint


def test_that_of_photographs_covers_pixels_regions_and_repeats() -> None:
    data = open_data(DataRecipe())
    assert fingerprints(data) == fingerprints(open_data(DataRecipe()))
    assert fingerprints(data) != fingerprints(open_data(DataRecipe(crop=32)))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    other = pixels.copy()
    other[20, 40, 1] ^= 1
    region = Region(0, 0, 60, 45)
    own = RegionImages([("a", pixels, region)], crop=16).fingerprint
    assert RegionImages([("b", pixels.copy(), region)], crop=16).fingerprint == own
    assert RegionImages([("a", other, region)], crop=16).fingerprint != own
    assert RegionImages([("a", pixels, Region(0, 1, 60, 45))], crop=16).fingerprint != own
    assert RegionImages([("a", pixels, region)], crop=40).fingerprint != own  # drawn less often
    flat = np.zeros((60, 60, 3), np.uint8)
    sizes = [
        RegionImages([("a", flat, Region(0, 0, *size))], 60).fingerprint for size in ((30, 60), (60, 30))
    ]
    assert sizes[0] != sizes[1]
