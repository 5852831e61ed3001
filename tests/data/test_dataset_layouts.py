"""Common layouts of datasets: saved to disk, several configurations, images or their paths."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.dataset_files import (
    COUNT,
    open_dataset,
    save_to_disk,
    write_image_folder,
    write_parquet,
)

from flatvq.data import load_image
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.usefixtures("offline")


def saved(folder: Path, files: list[bytes], *splits: str) -> Path:
    """A folder as `save_to_disk` leaves it: of a `Dataset`, or of a `DatasetDict` if splits are named."""
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": file, "path": None} for file in files], "label": list(range(len(files)))},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    return save_to_disk(folder, datasets.DatasetDict(dict.fromkeys(splits, rows)) if splits else rows)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("splits", [(), ("train",), ("train", "test")])
def test_folders_of_save_to_disk(
    splits: tuple[str, ...], streaming: bool, tmp_path: Path, files: list[bytes]
) -> None:
    expected = open_dataset(write_parquet(tmp_path / "set", files))
    data = open_dataset(saved(tmp_path / "saved", files, *splits), streaming=streaming)
    assert data.training.names == expected.training.names
    assert data.training.fingerprint == expected.training.fingerprint
    assert data.validation.fingerprint == expected.validation.fingerprint
    assert ("saved without splits" in data.held_out) == (not splits)


def test_rows_that_were_selected_before_they_were_saved(tmp_path: Path, files: list[bytes]) -> None:
    path = saved(tmp_path / "saved", files)
    rows = datasets.load_from_disk(path).select(range(4, 12)).with_format("numpy", columns=["label"])
    data = open_dataset(save_to_disk(tmp_path / "selected", rows))
    expected = open_dataset(write_parquet(tmp_path / "set", files[4:12]))
    assert data.training.fingerprint == expected.training.fingerprint


def test_rows_without_splits_become_the_named_split(tmp_path: Path, files: list[bytes]) -> None:
    path = saved(tmp_path / "saved", files)
    assert all(name.startswith("mine/") for name in open_dataset(path, split="mine").training.names)
    with pytest.raises(
        FlatvqError, match=r"saved without splits, so it has no split 'test': leave data\.val"
    ):
        open_dataset(path, validation_path="test")


def several_configurations(folder: Path, files: list[bytes], *names: str) -> Path:
    folder.mkdir()
    entries = ""
    for number, name in enumerate(names):
        write_parquet(folder / name, files[number:])
        entries += f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/*.parquet\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{entries}---\n")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_configurations(streaming: bool, tmp_path: Path, files: list[bytes]) -> None:
    path = several_configurations(tmp_path / "set", files, "large", "small")
    for name, count in (("large", COUNT), ("small", COUNT - 1)):
        data = open_dataset(path, configuration=name, streaming=streaming)
        assert len(data.training) + len(data.validation) == count
    for changes, message in (
        ({}, "has several configurations: set data.configuration to one of large, small"),
        (
            {"configuration": "tiny"},
            "has no configuration 'tiny': set data.configuration to one of large, small",
        ),
    ):
        with pytest.raises(FlatvqError, match=message):
            open_dataset(path, streaming=streaming, **changes)


def test_a_configuration_where_there_is_none(tmp_path: Path, files: list[bytes]) -> None:
    with pytest.raises(FlatvqError, match=r"no configuration 'x': set data.configuration to one of default"):
        open_dataset(write_parquet(tmp_path / "set", files), configuration="x")
    with pytest.raises(FlatvqError, match=r"save_to_disk and has no configurations: leave"):
        open_dataset(saved(tmp_path / "saved", files), configuration="x")
    with pytest.raises(ValueError, match=r"configuration=x needs source=huggingface, not folder"):
        DataRecipe(source="folder", path="x", configuration="x")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["bytes", "text", "path", "bytes and path"])
def test_columns_of_files_and_paths(
    kind: str, streaming: bool, tmp_path: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    pictures = write_image_folder(tmp_path / "pictures", files) / "train"
    paths = [str(pictures / f"{number:04}.png") for number in range(COUNT)]
    paths[3] = str(pictures / "absent.png")
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "4.png").write_bytes(files[4])
    paths[4] = "inside/4.png"  # relative to the dataset
    monkeypatch.chdir(tmp_path)
    paths[5] = "pictures/train/0005.png"  # relative to the working folder
    cells = {
        "bytes": [*files[:3], b"", *files[4:]],
        "text": paths,
        "path": [{"path": path} for path in paths],
        "bytes and path": [
            {"bytes": file if number % 2 == 0 else None, "path": path}
            for number, (file, path) in enumerate(zip(files, paths, strict=True))
        ],
    }[kind]
    pq.write_table(pa.table({"image": cells, "label": [0] * COUNT}), folder / "train-0.parquet")
    data = open_dataset(folder, streaming=streaming)
    (file,) = data.file_statuses
    assert (file.name, file.status) == ("train/3", "unreadable")
    reason = "empty file" if kind == "bytes" else f"no such file or directory: '{pictures / 'absent.png'}'"
    assert reason in file.reason
    expected = open_dataset(write_parquet(tmp_path / "expected", [*files[:3], b"", *files[4:]]))
    assert data.training.fingerprint == expected.training.fingerprint
    assert data.training.names == expected.training.names


@pytest.mark.parametrize("streaming", [False, True])
def test_strings_are_not_paths_if_another_column_has_images(
    streaming: bool, tmp_path: Path, files: list[bytes]
) -> None:
    (tmp_path / "captions").mkdir()
    table = pa.table({"caption": ["a cat"] * COUNT})
    pq.write_table(table, tmp_path / "captions" / "train-0.parquet")
    with pytest.raises(FlatvqError, match=r"24 of 24 images .* such as 'train/0': .*no such file .*a cat'"):
        open_dataset(tmp_path / "captions", image_column="caption", streaming=streaming)
    write_image_folder(tmp_path / "set", files)
    rows = [f'{{"file_name": "{number:04}.png", "caption": "a cat"}}\n' for number in range(COUNT)]
    (tmp_path / "set" / "train" / "metadata.jsonl").write_text("".join(rows))
    with pytest.raises(FlatvqError, match=r"column 'caption' .* holds no images .*: .* images are in image"):
        open_dataset(tmp_path / "set", image_column="caption", streaming=streaming)


def test_grey_and_cmyk_rows(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 240, 10, np.uint8), (20, 1))
    inks = np.dstack([ramp, ramp[::-1], ramp * 0, ramp // 2])
    images = [
        Image.fromarray(ramp),
        Image.fromarray(inks, "CMYK"),
        Image.fromarray(ramp.astype(np.uint16) * 257),
    ]
    rows = datasets.Dataset.from_dict({"image": images})
    data = open_dataset(save_to_disk(tmp_path / "saved", rows))
    shown = {
        name: load_image(images, index)
        for images in (data.training, data.validation)
        for index, name in enumerate(images.names)
    }
    grey = np.repeat(ramp[..., None], 3, axis=2)
    colour = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    assert np.array_equal(shown["train/0"], grey)
    assert np.abs(shown["train/1"] - colour).max() <= 1
    assert np.array_equal(shown["train/2"], grey)
    assert {file.name: file.reason for file in data.file_statuses} == {
        "train/0": "greyscale",
        "train/1": "CMYK",
        "train/2": "greyscale; more than 8 bits a sample",
    }


def test_the_cause_is_in_the_line(tmp_path: Path, files: list[bytes]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.parquet").write_bytes(b"PAR1 is how it begins")
    with pytest.raises(FlatvqError, match=r"cannot open dataset .*set' \(.*[Pp]arquet.*\): check data.path"):
        open_dataset(tmp_path / "set")
    path = saved(tmp_path / "saved", files)
    (path / "state.json").write_text("{")
    with pytest.raises(FlatvqError, match=r"cannot open dataset .*saved' \(JSONDecodeError: Expecting"):
        open_dataset(path)
    for path in ("~nobody-here/set", "nul\0byte"):
        with pytest.raises(FlatvqError) as caught:
            open_dataset(path)
        assert str(caught.value).isprintable()
