"""Hugging Face datasets, made here and read offline: parquet, tar, image folder; stored and streamed."""

from __future__ import annotations

import logging
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.dataset_files import (
    COUNT,
    encoded,
    open_dataset,
    write_image_folder,
    write_parquet,
    write_tar,
)

from flatvq.data import ImageSet, TrainingCrops, load_image
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.recipe import DataRecipe

pytest.importorskip("pyarrow")

Picture = Callable[..., np.ndarray]
pytestmark = pytest.mark.usefixtures("offline")
WRITERS = {"image": write_parquet, "png": write_tar, "image ": write_image_folder}


def content(images: ImageSet) -> set[bytes]:
    return {load_image(images, index).tobytes() for index in range(len(images))}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", WRITERS)
def test_every_kind_gives_all_images_once(
    column: str, streaming: bool, tmp_path: Path, files: list[bytes], picture: Picture
) -> None:
    path = WRITERS[column](tmp_path / "set", files)
    data = open_dataset(path, image_column=column.strip(), streaming=streaming)
    assert len(data.training) + len(data.validation) == COUNT
    assert content(data.training) | content(data.validation) == {picture(n).tobytes() for n in range(COUNT)}
    assert not content(data.training) & content(data.validation)
    assert not data.file_statuses
    for images in (data.training, data.validation):
        for index, name in enumerate(images.names):
            assert np.array_equal(load_image(images, index), picture(int(name.removeprefix("train/"))))


def test_the_sides_do_not_depend_on_the_container(tmp_path: Path, files: list[bytes]) -> None:
    sides = {
        column: open_dataset(
            write(tmp_path / f"set{column}", files), image_column=column.strip()
        ).validation.names
        for column, write in WRITERS.items()
    }
    assert len(set(sides.values())) == 1


def test_a_column_of_plain_bytes(tmp_path: Path, files: list[bytes]) -> None:
    path = write_parquet(tmp_path / "set", files)
    assert open_dataset(path, image_column="raw").validation.names == open_dataset(path).validation.names


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_is_held_out_without_its_copies(
    streaming: bool, tmp_path: Path, files: list[bytes], picture: Picture
) -> None:
    path = write_parquet(tmp_path / "set", files)
    write_parquet(path, [encoded(picture(99)), files[5]], split="test")
    data = open_dataset(path, validation_path="test", streaming=streaming)
    assert data.validation.names == ("test/0", "test/1")
    assert len(data.training) == COUNT - 1
    assert [(file.name, file.status) for file in data.file_statuses] == [("train/5", "skipped")]


def test_a_limited_stream_stops_at_that_many_training_images(
    tmp_path: Path, files: list[bytes], picture: Picture
) -> None:
    path = write_parquet(tmp_path / "set", files)
    everything = open_dataset(path, streaming=True)
    data = open_dataset(path, streaming=True, limit=6)
    assert data.training.names == everything.training.names[:6]
    assert set(data.validation.names) <= set(everything.validation.names)
    write_parquet(path, [encoded(picture(99))], split="test")
    assert len(open_dataset(path, streaming=True, limit=6, validation_path="test").training) == 6


def test_a_stream_larger_than_the_cache_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 300, 300, 3), np.uint8)
    path = write_parquet(tmp_path / "set", [encoded(pixels) for pixels in noise])
    with pytest.raises(
        FlatvqError,
        match=r"more than data.cache_mib 1 holds: 3 images: set data.limit lower, .*data.source shards$",
    ):
        open_dataset(path, streaming=True, cache_mib=1)
    assert len(open_dataset(path, cache_mib=1).training) > 0  # stored, it is read on demand


@pytest.mark.parametrize("streaming", [False, True])
def test_damaged_images_are_named(streaming: bool, tmp_path: Path, files: list[bytes]) -> None:
    files[3] = files[3][:60]
    files[7] = b"text"
    files[9] = b""
    data = open_dataset(write_parquet(tmp_path / "set", files), streaming=streaming)
    assert {file.name for file in data.file_statuses if file.status == "unreadable"} == {
        "train/3",
        "train/7",
        "train/9",
    }
    assert len(data.training) + len(data.validation) == COUNT - 3


def test_crops_are_the_same_stored_streamed_and_uncached(tmp_path: Path, files: list[bytes]) -> None:
    path = write_parquet(tmp_path / "set", files)
    batches = [
        TrainingCrops(open_dataset(path, **how).training, DataRecipe(crop=16), seed=0, batch_size=8).batch(5)
        for how in ({}, {"streaming": True}, {"cache_mib": 0})
    ]
    assert all(np.array_equal(batch.pixels, batches[0].pixels) for batch in batches)


@pytest.mark.parametrize("streaming", [False, True])
def test_wrong_names_say_what_is_there(streaming: bool, tmp_path: Path, files: list[bytes]) -> None:
    path = write_parquet(tmp_path / "set", files)
    write_parquet(path, files, split="test")
    wrong = {
        "has no split 'trian': its splits are .*train": {"split": "trian"},
        "has no split 'val': its splits are .*test": {"validation_path": "val"},
        "has no column 'img': set data.image_column; it has image, raw, label": {"image_column": "img"},
        "column 'label' of .* holds no images": {"image_column": "label"},
        "data.path is empty": {"path": ""},
        "cannot open dataset '.*absent' .*: check data.path": {"path": str(tmp_path / "absent")},
        "cannot open dataset 'nobody/nothing' .*: check data.path": {"path": "nobody/nothing"},
    }
    for message, changes in wrong.items():
        with pytest.raises(FlatvqError, match=message) as caught:
            open_dataset(**{"path": path, "streaming": streaming, **changes})
        assert "\n" not in str(caught.value)


def test_a_broken_archive_is_one_line(tmp_path: Path, files: list[bytes]) -> None:
    path = write_tar(tmp_path / "set", files)
    archive = path / "shard-0.tar"
    with tarfile.open(archive) as tar:
        middle = tar.getmember("0012.png").offset_data + 100
    archive.write_bytes(archive.read_bytes()[:middle])
    for streaming in (False, True):
        with pytest.raises(FlatvqError, match="unexpected end of data") as caught:
            open_dataset(path, image_column="png", streaming=streaming)
        assert "\n" not in str(caught.value)


def test_nothing_is_printed_and_nothing_stays_changed(
    tmp_path: Path, files: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    path = write_parquet(tmp_path / "set", files)
    filters, level = list(warnings.filters), logging.getLogger("datasets").level
    open_dataset(path)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert logging.getLogger("datasets").level == level
    assert list(warnings.filters) == filters


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"flatvq\[data\]"):
        open_dataset("anything")
