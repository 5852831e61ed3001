"""Folders divided into training and validation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flatvq.data import DataSplit, ImageSet, TrainingCrops, load_image, open_data
from flatvq.data.holdout import divide
from flatvq.data.manifest import Image as Surveyed
from flatvq.data.manifest import manifest_of
from flatvq.data.selection import selection
from flatvq.data.subset import set_aside
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

Picture = Callable[..., np.ndarray]


def split(folder: Path, **changes: object) -> DataSplit:
    keys = {"source": "folder", "path": str(folder), "crop": 16, "validation_share": 0.2, **changes}
    return open_data(DataRecipe.model_validate(keys))


def content(images: ImageSet) -> set[bytes]:
    return {load_image(images, index).tobytes() for index in range(len(images))}


def reasons(data: DataSplit) -> dict[str, tuple[str, str, str]]:
    return {file.name: (file.split, file.status, file.reason) for file in data.file_statuses}


def test_sides_cover_everything_and_share_nothing(folder: Path) -> None:
    data = split(folder)
    training, validation = set(data.training.names), set(data.validation.names)
    assert not training & validation
    assert len(training | validation) == 30
    assert 2 <= len(validation) <= 12  # of 30 at 0.2; the files are fixed, so this is no matter of luck
    assert not content(data.training) & content(data.validation)
    assert f"{len(validation)} of 30 images" in data.held_out
    assert list(data.training.repeats) == [1] * len(training)
    assert split(folder).validation.names == data.validation.names


def test_pixels_are_the_files(folder: Path) -> None:
    data = split(folder)
    for images in (data.training, data.validation):
        for index, name in enumerate(images.names):
            assert np.array_equal(load_image(images, index), Image.open(folder / name))


def test_neither_names_nor_other_files_move_a_file(folder: Path, picture: Picture) -> None:
    before = set(split(folder).validation.names)
    for number in range(100, 130):
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
    assert before == {name for name in split(folder).validation.names if "class" in name}
    (folder / "class0").rename(folder / "renamed")
    after = {name.replace("renamed", "class0") for name in split(folder).validation.names}
    assert before == {name for name in after if "class" in name}


def test_exact_copies_are_on_the_same_side(folder: Path) -> None:
    shutil.copytree(folder, folder / "copies")
    data = split(folder)
    for images in (data.training, data.validation):
        names = set(images.names)
        assert {f"copies/{name}" for name in names if not name.startswith("copies")} <= names


@given(
    numbers=st.lists(st.integers(0, 30).map(lambda n: n * 2**123), min_size=1, max_size=40),
    share=st.floats(0.01, 0.99),
)
def test_divide_leaves_neither_side_empty(numbers: list[int], share: float) -> None:
    images = [Surveyed(f"{number:032x}", 1, 1, ()) for number in numbers]
    entries = selection(manifest_of([str(n).encode() for n in range(len(images))], images, {}), None)
    if len(set(numbers)) < 2:
        with pytest.raises(
            FlatvqError, match="here holds 1 distinct readable image; at least two are needed"
        ):
            divide(entries, share, "here")
        return
    sides = divide(entries, share, "here")
    held, kept = ({numbers[row] for row in side.rows} for side in (sides.validation, sides.training))
    assert held
    assert kept
    assert not held & kept
    assert sorted([*sides.validation.rows, *sides.training.rows]) == list(range(len(numbers)))
    below = {number for number in numbers if number / 2**128 < share}
    if below and below != set(numbers):
        assert held == below


def test_one_image_cannot_be_divided(tmp_path: Path, picture: Picture) -> None:
    for name in ("a.png", "copy.png"):
        Image.fromarray(picture(0)).save(tmp_path / name)
    with pytest.raises(FlatvqError, match="1 distinct readable image; at least two are needed"):
        split(tmp_path)


def test_two_images_make_one_each_even_if_others_are_damaged(tmp_path: Path, picture: Picture) -> None:
    for number in range(2):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "0.png").read_bytes()
    for number in range(2):
        (tmp_path / f"damaged{number}.png").write_bytes(whole[: 300 + number])
    data = split(tmp_path)
    assert len(data.training) == len(data.validation) == 1
    assert {name for name, (_, file, _) in reasons(data).items() if file == "unreadable"} == {
        "damaged0.png",
        "damaged1.png",
    }


def test_too_many_unreadable(folder: Path) -> None:
    for number in range(10):
        (folder / f"bad{number}.jpg").write_text("text")
    assert len(split(folder, max_unreadable=0.25).file_statuses) == 10
    message = r"10 of 40 images .* such as 'bad0.jpg': .*, or raise data.max_unreadable to 0.25$"
    with pytest.raises(FlatvqError, match=message):
        split(folder, max_unreadable=0.1)


def test_the_least_sufficient_share_of_unreadable_files_is_named(folder: Path, tmp_path: Path) -> None:
    for image in sorted(folder.rglob("*.png"))[2:]:
        image.write_text("text")
    with pytest.raises(FlatvqError, match=r"28 of 30 images .* to 0\.934$"):  # 28 / 30 is 0.9333...
        split(folder, max_unreadable=0.5)
    assert len(split(folder, max_unreadable=0.934).file_statuses) == 28
    for image in folder.rglob("*.png"):
        image.write_text("text")
    with pytest.raises(FlatvqError, match="30 of 30 images") as caught:
        split(folder, max_unreadable=0.5)
    assert "max_unreadable" not in str(caught.value)


def test_a_validation_folder_is_kept_out_of_training(folder: Path, tmp_path: Path, picture: Picture) -> None:
    held_out = tmp_path / "held out"
    held_out.mkdir()
    Image.fromarray(picture(200)).save(held_out / "new.png")
    shutil.copy(folder / "class1" / "01.png", held_out / "copied.png")
    data = split(folder, validation_path=str(held_out))
    assert data.validation.names == ("copied.png", "new.png")
    assert len(data.training) == 29
    assert not content(data.training) & content(data.validation)
    assert reasons(data)["class1/01.png"] == ("training", "skipped", "a copy of held-out 'copied.png'")
    assert "1 exact copies" in data.held_out


def test_a_validation_folder_inside_the_training_folder(folder: Path) -> None:
    data = split(folder, validation_path=str(folder / "class2"))
    assert len(data.training) == 20
    assert len(data.validation) == 10
    assert not content(data.training) & content(data.validation)
    with pytest.raises(FlatvqError, match=r"every image of .* is also in "):
        split(folder, validation_path=str(folder))


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("bmp", "uint8"), ("ppm", "uint8"), ("tif", "uint8"), ("tif", "uint16")]
)
def test_files_with_equal_heads_are_different_images(tmp_path: Path, suffix: str, dtype: str) -> None:
    # Uncompressed files of one size that differ in one pixel near their end: scans of forms, for example.
    pixels = np.zeros((210, 240, 3) if dtype == "uint8" else (210, 240), dtype)
    for number in range(1, 31):
        # The rows of a BMP file start at the bottom.
        pixels[0 if suffix == "bmp" else -1, -1] = number * (np.iinfo(dtype).max // 30)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.{suffix}")
    files = [file.read_bytes() for file in tmp_path.iterdir()]
    assert len(set(files)) == 30
    assert len({(len(file), file[: 64 * 1024]) for file in files}) == 1
    shutil.copytree(tmp_path, tmp_path / "copies")
    data = split(tmp_path, validation_share=0.3)
    assert len(data.training) + len(data.validation) == 60
    assert 8 <= len(data.validation) <= 32  # of 60 at 0.3; the files are fixed
    for images in (data.training, data.validation):
        assert {Path(name).name for name in images.names if name.startswith("copies/")} == {
            name for name in images.names if not name.startswith("copies/")
        }


def test_only_exact_copies_of_a_validation_folder_are_left_out(tmp_path: Path) -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    for side, values in (("training", (50, 70)), ("validation", (70, 90))):
        (tmp_path / side).mkdir()
        for value in values:
            pixels[-1] = value
            Image.fromarray(pixels).save(tmp_path / side / f"{value}.ppm")
    data = split(tmp_path / "training", validation_path=str(tmp_path / "validation"))
    assert data.training.names == ("50.ppm",)
    assert data.validation.names == ("70.ppm", "90.ppm")


def test_limit_chooses_among_all_and_the_same_each_time(folder: Path) -> None:
    everything = split(folder)
    data = split(folder, limit=9)
    assert len(data.training) == 9
    assert set(data.training.names) <= set(everything.training.names)
    assert {name.split("/")[0] for name in data.training.names} == {"class0", "class1", "class2"}
    assert data.validation.names == everything.validation.names
    left = len(everything.training) - 9
    assert reasons(data) == {f"others ({left} images)": ("training", "skipped", "data.limit is 9")}
    assert split(folder, limit=9).training.names == data.training.names


def test_converted_images_are_named_with_their_side(folder: Path) -> None:
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    data = split(folder)
    sides = {
        **dict.fromkeys(data.training.names, "training"),
        **dict.fromkeys(data.validation.names, "validation"),
    }
    assert reasons(data) == {name: (side, "converted", "greyscale") for name, side in sides.items()}


def test_without_a_cache_the_same_crops(folder: Path) -> None:
    def batch(cache_mib: int) -> np.ndarray:
        data = split(folder, cache_mib=cache_mib)
        return TrainingCrops(data.training, DataRecipe(crop=16), seed=1, batch_size=8).batch(3).pixels.numpy()

    assert np.array_equal(batch(0), batch(64))


def test_a_set_tells_whether_it_is_decoded(folder: Path) -> None:
    for cache_mib in (0, 64):
        images = split(folder, cache_mib=cache_mib).training
        for part in (images, *set_aside(images, 0.2)):
            assert part.decoded is (cache_mib > 0)
            load_image(part, 0)
            assert part.decoded is (cache_mib > 0)
    assert open_data(DataRecipe()).training.decoded  # the bundled photographs


def test_a_file_that_turns_out_damaged_is_replaced_and_listed(
    folder: Path, tmp_path: Path, picture: Picture
) -> None:
    held_out = tmp_path / "held out"
    held_out.mkdir()
    Image.fromarray(picture(200)).save(held_out / "new.png")
    names = split(folder, validation_path=str(held_out)).training.names
    damaged = (0, 1, 17, 29)
    for number in damaged:
        whole = (folder / names[number]).read_bytes()
        (folder / names[number]).write_bytes(whole[: len(whole) // 2])
    data = split(folder, validation_path=str(held_out), cache_mib=0)
    assert data.training.names == names
    assert not data.file_statuses
    for number, stand_in in zip(damaged, (2, 2, 18, 2), strict=True):
        assert np.array_equal(load_image(data.training, number), Image.open(folder / names[stand_in]))
    # The first also failed as the stand-in of the last. It is listed once.
    assert sorted((file.name, file.split, file.status) for file in data.late_file_statuses) == [
        (names[number], "training", "unreadable") for number in damaged
    ]
    assert (
        len(split(folder, validation_path=str(held_out)).training) == 26
    )  # with a cache, damage is detected on opening


def test_everything_lost_while_training(folder: Path) -> None:
    data = split(folder, cache_mib=0)
    shutil.rmtree(folder)
    with pytest.raises(FlatvqError, match=r"none of the .* training images can be read any more"):
        load_image(data.training, 0)


def test_images_cannot_be_written_to(folder: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_image(split(folder).training, 0)[0] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ""}, "data.path is empty: set data.path"),
        ({"path": "absent"}, "no folder at 'absent': check data.path"),
        ({"validation_path": "absent"}, "no folder at 'absent': check data.validation_path"),
    ],
)
def test_wrong_paths_name_their_key(folder: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(FlatvqError, match=message):
        split(folder, **changes)
