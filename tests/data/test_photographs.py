"""The bundled photographs: what is held out is never trained on, nor anything near it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from flatvq.data import DataSplit, TrainingCrops, load_image, open_data, photographs
from flatvq.data.photographs import Region, gap_for, layout
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe, load_recipe, shipped_recipes

pytestmark = pytest.mark.slow


def mask(height: int, width: int, regions: tuple[Region, ...]) -> np.ndarray:
    covered = np.zeros((height, width), int)
    for region in regions:
        assert region.top >= 0
        assert region.left >= 0
        assert region.top + region.height <= height
        assert region.left + region.width <= width
        covered[region.top : region.top + region.height, region.left : region.left + region.width] += 1
    return covered


@given(
    height=st.integers(8, 400),
    width=st.integers(8, 400),
    crop=st.integers(8, 96),
    share=st.floats(0.01, 0.99),
)
def test_regions_keep_their_distance(height: int, width: int, crop: int, share: float) -> None:
    assume(min(height, width) >= crop)
    plan = layout(height, width, crop, share)
    training, held = mask(height, width, plan.training), mask(height, width, plan.cells)
    assert training.max() == 1
    assert held.max() <= 1
    gap = gap_for(crop)
    for top, left in np.argwhere(held)[:: max(1, crop // 4)]:
        near = training[max(0, top - gap) : top + gap + 1, max(0, left - gap) : left + gap + 1]
        assert not near.any()
    assert all(min(region.height, region.width) >= crop for region in plan.training)
    assert all((cell.height, cell.width) == (crop, crop) for cell in plan.cells)
    if not plan.cells:
        assert max(height, width) < 2 * crop + gap


def test_the_share_is_meant() -> None:
    for share in (0.05, 0.1, 0.2, 0.3):
        cells = layout(1280, 2560, 64, share).cells
        assert len(cells) * 64 * 64 / (1280 * 2560) == pytest.approx(share, abs=0.02)


def open_photographs(**changes: object) -> DataSplit:
    return open_data(DataRecipe.model_validate({"crop": 64, **changes}))


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for the photographs whose pixels tell the row, the column and the number."""
    root = tmp_path_factory.mktemp("packages")
    number = 0
    for package, files in photographs._PHOTOGRAPHS.items():
        for file in files:
            path = root / package / file
            path.parent.mkdir(parents=True, exist_ok=True)
            rows, columns = np.mgrid[: 180 + 7 * number, : 250 - 9 * number]
            pixels = np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)
            Image.fromarray(pixels).save(path, "PNG")
            number += 1
    return root


@settings(max_examples=25)
@given(
    crop=st.sampled_from([16, 24, 40]),
    share=st.floats(0.02, 0.9),
    seed=st.integers(0, 1000),
    step=st.integers(0, 10**6),
)
def test_training_crops_never_touch_what_is_held_out(
    coded: Path, crop: int, share: float, seed: int, step: int
) -> None:
    files = {
        Path(file).stem: coded / package / file
        for package, f in photographs._PHOTOGRAPHS.items()
        for file in f
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photographs, "_files", lambda: files)
        data = open_photographs(crop=crop, validation_share=share)
    held = np.zeros((10, 256, 256), bool)
    for index in range(len(data.validation)):
        rows, columns, number = np.moveaxis(load_image(data.validation, index), 2, 0)
        assert not held[number, rows, columns].any(), "cells overlap"
        held[number, rows, columns] = True
    batch = (
        TrainingCrops(data.training, DataRecipe(crop=crop), seed, batch_size=40).batch(step).pixels.numpy()
    )
    for rows, columns, number in batch:
        gap = gap_for(crop)
        top, left = max(0, int(rows.min()) - gap), max(0, int(columns.min()) - gap)
        around = held[number[0, 0], top : int(rows.max()) + gap + 1, left : int(columns.max()) + gap + 1]
        assert not around.any()


def test_cells_and_regions_are_cut_where_their_names_say() -> None:
    data = open_photographs()
    files = photographs._files()
    for images in (data.training, data.validation):
        assert len(set(images.names)) == len(images)
        for index, name in enumerate(images.names):
            photograph, place = name.split("@")
            top, left = map(int, place.split(","))
            pixels = load_image(images, index)
            height, width, _ = pixels.shape
            whole = np.asarray(Image.open(files[photograph]).convert("RGB"))
            assert np.array_equal(pixels, whole[top : top + height, left : left + width])


def test_ten_photographs_without_the_stereo_twin() -> None:
    data = open_photographs()
    names = {name.split("@")[0] for name in data.training.names}
    assert names == {name.split("@")[0] for name in data.validation.names}
    assert len(names) == 10
    assert "motorcycle_right" not in names
    assert not data.file_statuses


def test_every_pixel_counts_about_alike() -> None:
    data = open_photographs(crop=32)
    areas = [np.prod(load_image(data.training, index).shape[:2]) for index in range(len(data.training))]
    per_area = np.array(data.training.repeats) / areas
    assert per_area.max() / per_area.min() < 1.05


def test_shipped_recipes_hold_out_enough() -> None:
    sources = {name: load_recipe(name).data for name in shipped_recipes()}
    bundled = {name: recipe for name, recipe in sources.items() if recipe.source == "photographs"}
    assert bundled
    for recipe in bundled.values():
        data = open_data(recipe)
        assert len(data.validation) >= 100
        assert str(len(data.validation)) in data.held_out


def test_photographs_are_scaled_before_they_are_divided() -> None:
    data = open_photographs(resize=100, crop=16)
    whole = Image.open(photographs._files()["coffee"]).resize((150, 100), Image.Resampling.BICUBIC)
    name = next(name for name in data.validation.names if name.startswith("coffee"))
    top, left = map(int, name.split("@")[1].split(","))
    expected = np.asarray(whole)[top : top + 16, left : left + 16]
    assert np.array_equal(load_image(data.validation, data.validation.names.index(name)), expected)


def test_photographs_too_small_for_a_strip_are_trained_on_and_named() -> None:
    data = open_photographs(crop=256)
    (file,) = [file for file in data.file_statuses if file.name == "chelsea"]
    assert (file.split, file.status) == ("validation", "skipped")
    assert "chelsea@0,0" in data.training.names
    with pytest.raises(FlatvqError, match=r"no bundled photograph is large enough .* data.crop 2048"):
        open_photographs(crop=2048)


def test_limit_takes_the_first_regions() -> None:
    data = open_photographs(limit=3)
    assert len(data.training) == 3
    assert {file.reason for file in data.file_statuses} == {"data.limit is 3"}
    assert {file.name for file in data.file_statuses} == set(open_photographs().training.names[3:])


def test_the_packages_are_not_imported() -> None:
    before = {"skimage", "sklearn"} & set(sys.modules)
    open_photographs()
    assert {"skimage", "sklearn"} & set(sys.modules) == before


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    with pytest.raises(FlatvqError, match="skimage"):
        open_photographs()
