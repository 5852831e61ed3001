"""A survey that uses the cache equals one that reads every file, also after the files have changed."""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq.data import folder as folders
from flatvq.data import survey, survey_cache
from flatvq.data.folder import open_folder
from flatvq.data.splits import OpenedFolder


def picture(seed: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "BMP")  # all pictures of a side have the same size in bytes
    return content.getvalue()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures and a file that is none, in a folder that is large enough for a cache."""
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "FEWEST_FILES", 1)
    monkeypatch.setattr(survey_cache, "_SETTLED_SECONDS", 0.0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(10):
        (folder / f"{seed}.bmp").write_bytes(picture(seed))
    (folder / "damaged.bmp").write_bytes(b"BM")
    time.sleep(0.02)
    return folder


@pytest.fixture
def read_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that a survey reads."""
    names: list[str] = []
    examine = survey.examine

    def recorded(item: survey.Item, *others: object) -> object:
        names.append(item.name)
        return examine(item, *others)

    monkeypatch.setattr(survey, "examine", recorded)
    return names


def described(opened: OpenedFolder) -> list[object]:
    images = opened.images
    sizes = [images.size_of(number) for number in range(len(images))]
    return [images.names, images.digests, images.fingerprint, sizes, opened.file_statuses]


def uncached(folder: Path, monkeypatch: pytest.MonkeyPatch, crop: int = 16) -> list[object]:
    with monkeypatch.context() as patch:
        patch.setenv("FLATVQ_CACHE", "off")
        return described(open_folder(folder, crop))


def test_the_second_survey_reads_only_what_is_no_image(
    pictures: Path, read_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = described(open_folder(pictures, 16))
    assert len(read_names) == 11
    read_names.clear()
    assert described(open_folder(pictures, 16)) == first
    assert read_names == ["damaged.bmp"]
    assert uncached(pictures, monkeypatch) == first


@pytest.mark.parametrize(
    "change", ["content", "content and its time", "size", "new", "gone", "renamed", "swapped"]
)
def test_a_change_of_the_folder_is_noticed(
    change: str, pictures: Path, read_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = described(open_folder(pictures, 16))
    file = pictures / "3.bmp"
    times = file.stat()
    time.sleep(0.02)
    if change.startswith("content"):
        file.write_bytes(picture(33))
    if change == "content and its time":  # as a copy with `cp --preserve` or `rsync --times`
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    if change == "size":
        file.write_bytes(picture(3, 48))
    if change == "new":
        (pictures / "35.bmp").write_bytes(picture(35))
    if change == "gone":
        file.unlink()
    if change == "renamed":
        file.rename(pictures / "36.bmp")
    if change == "swapped":
        (pictures / "4.bmp").rename(pictures / "other")
        file.rename(pictures / "4.bmp")
        (pictures / "other").rename(file)
    read_names.clear()
    after = described(open_folder(pictures, 16))
    assert after != before
    assert after == uncached(pictures, monkeypatch)
    assert len([name for name in read_names if name == "0.bmp"]) == 1  # by the uncached survey only


def test_a_file_that_has_just_changed_is_not_stored(
    pictures: Path, read_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_cache, "_SETTLED_SECONDS", 3600.0)
    open_folder(pictures, 16)
    read_names.clear()
    open_folder(pictures, 16)
    assert len(read_names) == 11


def test_another_conversion_has_another_cache(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(pictures, 16)
    assert described(open_folder(pictures, 48)) == uncached(pictures, monkeypatch, 48)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 1000, "cut", "other"])
def test_a_damaged_cache_is_ignored_and_replaced(
    content: bytes | str, pictures: Path, read_names: list[str], tmp_path: Path
) -> None:
    first = described(open_folder(pictures, 16))
    (cache,) = (tmp_path / "cache" / "surveys").iterdir()
    if content == "cut":
        cache.write_bytes(cache.read_bytes()[:-40])
    elif content == "other":
        import pyarrow as pa

        table = pa.table({"path": ["0.bmp"], "size": ["large"]})
        with pa.ipc.new_file(cache, table.schema) as writer:
            writer.write_table(table)
    else:
        cache.write_bytes(content)
    assert described(open_folder(pictures, 16)) == first
    read_names.clear()
    assert described(open_folder(pictures, 16)) == first
    assert read_names == ["damaged.bmp"]


def test_a_cache_that_cannot_be_written_is_no_error(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pictures.parent / "file").write_text("")
    monkeypatch.setenv("FLATVQ_CACHE", str(pictures.parent / "file"))
    assert described(open_folder(pictures, 16)) == uncached(pictures, monkeypatch)


def test_small_folders_are_always_read(
    pictures: Path, read_names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folders, "FEWEST_FILES", 12)
    open_folder(pictures, 16)
    open_folder(pictures, 16)
    assert len(read_names) == 22
    assert not (tmp_path / "cache").exists()
