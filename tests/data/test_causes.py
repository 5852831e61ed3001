"""Errors on opening data name the first cause: a file, its reason, and a remedy that applies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from flatvq.data import load_image, open_data, open_folder, photographs
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

Picture = Callable[..., np.ndarray]


def recipe(folder: Path, **changes: object) -> DataRecipe:
    keys = {"source": "folder", "path": str(folder), "crop": 16, "validation_share": 0.2, **changes}
    return DataRecipe.model_validate(keys)


@pytest.mark.parametrize(("key", "other"), [("crop", {}), ("resize", {"crop": 16})])
def test_too_large_a_crop_or_scale(folder: Path, key: str, other: dict[str, int]) -> None:
    message = (
        r"no image of folder '.*' is usable, such as 'class0/00.png' \(72000 x 60000 pixels once scaled to "
        rf"{key} 60000: the limit is 100 megapixels\): lower the {key}$"
    )
    with pytest.raises(FlatvqError, match=message):
        open_folder(folder, **{key: 60_000, **other})
    with pytest.raises(FlatvqError, match=message):
        open_data(recipe(folder, **{key: 60_000, **other}))


@pytest.mark.slow
def test_all_images_but_one_are_too_large(folder: Path, picture: Picture) -> None:
    Image.fromarray(picture(99, height=20, width=20)).resize((9000, 9000)).save(folder / "large.png")
    with pytest.raises(FlatvqError) as caught:
        open_data(recipe(folder, crop=9500))
    assert "without 30 such as 'class0/00.png' (11400 x 9500 pixels once scaled to crop 9500" in str(
        caught.value
    )
    assert "holds 1 distinct readable image; at least two are needed" in str(caught.value)


def test_all_are_damaged(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:100])
    for limit in (0.5, 1.0):
        with pytest.raises(FlatvqError) as caught:
            open_data(recipe(folder, max_unreadable=limit))
        assert "such as 'class0/00.png'" in str(caught.value)
        assert "damaged" in str(caught.value)
        assert "check the path" not in str(caught.value)
    with pytest.raises(FlatvqError, match=r"30 of 30 images") as caught:
        open_folder(folder, crop=16)
    assert "max_unreadable" not in str(caught.value)  # which is no key of an evaluation


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_files_that_cannot_be_opened_say_why(
    folder: Path, cache_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_data(recipe(folder, cache_mib=cache_mib))
    if cache_mib:
        path_open = Path.open

        def refuse(path: Path, *args: str) -> object:
            if path.name == "00.png":
                raise OSError(5, "Input/output error", str(path))
            return path_open(path, *args)

        monkeypatch.setattr(Path, "open", refuse)
        (file,) = open_data(recipe(folder)).file_statuses
        assert (file.name, file.reason) == (
            "class0/00.png",
            "cannot be opened (input/output error)",
        )
    else:
        shutil.rmtree(folder)
        message = rf"such as '{data.training.names[0]}' \(cannot be opened \(no such file or directory\)\)"
        with pytest.raises(FlatvqError, match=message):
            load_image(data.training, 0)


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (np.zeros((20, 24), np.float64), {}),
        (np.zeros((20, 24, 2), np.uint16), {"extrasamples": [2], "photometric": "minisblack"}),
        (np.zeros((20, 24), np.uint16), {"photometric": "miniswhite", "byteorder": ">"}),
    ],
    ids=["64-bit", "grey with alpha", "white is zero, big-endian"],
)
def test_formats_that_pillow_does_not_support_say_why(
    samples: np.ndarray, options: dict[str, object], folder: Path
) -> None:
    tifffile.imwrite(folder / "a.tif", samples, **options)
    (file,) = open_folder(folder, crop=16).file_statuses
    assert (file.status, file.reason) == (
        "unreadable",
        "TIFF data that Pillow cannot read (unknown pixel mode)",
    )


def test_a_damaged_photograph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = photographs._files()
    copied = {name: Path(shutil.copy(file, tmp_path)) for name, file in files.items()}
    os.truncate(copied["coffee"], 1000)
    monkeypatch.setattr(photographs, "_files", lambda: copied)
    with pytest.raises(FlatvqError, match=r"photograph 'coffee.png' cannot be used \(damaged .*\): install"):
        open_data(DataRecipe())
