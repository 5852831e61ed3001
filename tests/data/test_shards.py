"""The source `shards`: images, pixels and sides as of a folder of the same files; changes and damage."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.dataset_files import COUNT, encoded
from tests.data.shard_files import (
    named,
    open_shards,
    parquet_bytes,
    tar_bytes,
    write_parquets,
    write_tars,
)

from flatvq.data import (
    DataSplit,
    TrainingCrops,
    evaluation_crops,
    load_image,
    open_data,
    open_images,
    shard_files,
    shard_index,
    survey_cache,
)
from flatvq.data.shard import Shard
from flatvq.data.shard_list import list_shards
from flatvq.data.subset import set_aside
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe, TrialRecipe

Picture = Callable[..., np.ndarray]
WRITERS = {"tar": write_tars, "parquet": write_parquets}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(survey_cache, "_SETTLED_SECONDS", 0.0)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shards that are indexed."""
    names: list[str] = []
    index = shard_index._index

    def recorded(shard: Shard, *others: object) -> object:
        names.append(shard.name)
        return index(shard, *others)

    monkeypatch.setattr(shard_index, "_index", recorded)
    return names


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The ranges of bytes that are read."""
    read_ranges: list[tuple[str, int, int]] = []
    read = Shard.read

    def recorded(shard: Shard, start: int, stop: int) -> bytes:
        read_ranges.append((shard.name, start, stop))
        return read(shard, start, stop)

    monkeypatch.setattr(Shard, "read", recorded)
    return read_ranges


def as_folder(folder: Path, files: list[bytes]) -> Path:
    """Write the files in an order of names that is the order of the shards."""
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:04}.png").write_bytes(file)
    return folder


def batches(
    data: DataSplit, start: int = 0, stop: int = 12, **how: int
) -> list[tuple[np.ndarray, list[str]]]:
    crops = TrainingCrops(data.training, DataRecipe(crop=16), seed=3, batch_size=8, **how)
    with_names = list(crops.batches(start, stop))
    return [(batch.pixels.numpy(), list(batch.names)) for batch in with_names]


@pytest.mark.parametrize("cache_mib", [0, 64])
@pytest.mark.parametrize("kind", WRITERS)
def test_the_images_are_those_of_a_folder(
    kind: str, cache_mib: int, tmp_path: Path, files: list[bytes]
) -> None:
    data = open_shards(WRITERS[kind](tmp_path / "shards", files), cache_mib=cache_mib)
    recipe = {"source": "folder", "path": str(as_folder(tmp_path / "folder", files))}
    folder = open_data(DataRecipe(**recipe, crop=16, validation_share=0.25, cache_mib=cache_mib))
    for images, others in ((data.training, folder.training), (data.validation, folder.validation)):
        assert images.fingerprint == others.fingerprint
        assert images.digests == others.digests
        for index in range(len(images)):
            assert np.array_equal(load_image(images, index), load_image(others, index))
        assert [crop.pixels.tobytes() for crop in evaluation_crops(images, 16)] == [
            crop.pixels.tobytes() for crop in evaluation_crops(others, 16)
        ]
    assert data.training.decoded is (cache_mib > 0)
    statuses = [(file.name, file.status) for file in data.file_statuses]
    assert statuses == ([(f"*.cls ({COUNT} files)", "skipped")] if kind == "tar" else [])


@pytest.mark.parametrize("kind", WRITERS)
def test_training_crops_are_cut_from_the_named_images(
    kind: str, tmp_path: Path, files: list[bytes], picture: Picture
) -> None:
    data = open_shards(WRITERS[kind](tmp_path / "shards", files), cache_mib=0, flip=False)
    crops = TrainingCrops(data.training, DataRecipe(crop=16, flip=False), seed=0, batch_size=6)
    for batch in crops.batches(0, 9):
        for pixels, name in zip(batch.pixels.permute(0, 2, 3, 1).numpy(), batch.names, strict=True):
            shard, _, member = name.partition("/")
            number = int(member.removesuffix(".png"))
            if kind == "parquet":
                number += 10 * int(shard[6:9])
            whole = np.lib.stride_tricks.sliding_window_view(picture(number), (16, 16, 3))
            assert (whole == pixels).all(axis=(-3, -2, -1)).any()


@pytest.mark.parametrize("kind", WRITERS)
def test_an_epoch_has_every_image_once(kind: str, tmp_path: Path, files: list[bytes]) -> None:
    data = open_shards(WRITERS[kind](tmp_path / "shards", files), cache_mib=0)
    count = len(data.training)
    names = [name for _, batch in batches(data, 0, count) for name in batch]  # 8 epochs
    epochs = [names[start : start + count] for start in range(0, len(names), count)]
    assert all(sorted(epoch) == sorted(data.training.names) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


@pytest.mark.parametrize("kind", WRITERS)
def test_a_batch_depends_on_the_step_alone(
    kind: str, tmp_path: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_files, "_BLOCK_MIB", 2**-10)  # blocks of a KiB, a few pictures
    data = open_shards(WRITERS[kind](tmp_path / "shards", files), cache_mib=0)
    whole = batches(data)
    resumed = batches(data, 7)
    shares = [batches(data, rank=rank, world_size=2) for rank in range(2)]
    crops = TrainingCrops(data.training, DataRecipe(crop=16), seed=3, batch_size=8)
    for step, (pixels, names) in enumerate(whole):
        first, second = (share[step] for share in shares)
        assert np.array_equal(pixels, np.concatenate([first[0], second[0]]))
        assert names == first[1] + second[1]
        assert np.array_equal(pixels, crops.batch(step).pixels)
        if step >= 7:
            assert np.array_equal(pixels, resumed[step - 7][0])


def test_two_processes_read_half_of_the_bytes_each(
    tmp_path: Path, picture: Picture, ranges: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_files, "_BLOCK_MIB", 2**-7)  # 8 KiB: a few pictures
    data = open_shards(write_tars(tmp_path / "shards", [encoded(picture(n)) for n in range(320)], 80))
    data = open_shards(tmp_path / "shards", cache_mib=0)
    ranges.clear()
    counts = []
    for how in ({}, {"rank": 0, "world_size": 2}, {"rank": 1, "world_size": 2}):
        batches(data, 0, len(data.training) // 8, **how)
        counts.append(sum(stop - start for _, start, stop in ranges))
        ranges.clear()
    assert max(counts[1:]) < 0.65 * counts[0]


def test_neighbours_are_read_together(
    tmp_path: Path, files: list[bytes], ranges: list[tuple[str, int, int]]
) -> None:
    data = open_shards(write_tars(tmp_path / "shards", files), cache_mib=0)
    ranges.clear()
    batches(data, 0, len(data.training) // 8)
    assert len(ranges) == 3  # one for each shard


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path, ranges: list[tuple[str, int, int]]) -> None:
    random = np.random.default_rng(0)
    files = [encoded(random.integers(0, 256, (400, 400, 3), np.uint8)) for _ in range(100)]
    size = sum(map(len, files))
    assert size > 45 * 2**20
    folder = write_tars(tmp_path / "shards", files, 25)
    del files
    data = open_shards(folder, cache_mib=0, shuffle_mib=16)
    crops = TrainingCrops(data.training, DataRecipe(crop=16), seed=0, batch_size=8)
    list(crops.batches(0, 1))  # imports
    ranges.clear()
    tracemalloc.start()
    try:
        for _ in crops.batches(0, len(data.training) // 8):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(stop - start for _, start, stop in ranges) > 30 * 2**20
    assert peak < 20 * 2**20  # 16 MiB, and the images that threads decode


@pytest.mark.parametrize("kind", WRITERS)
def test_only_a_changed_shard_is_indexed_again(
    kind: str, tmp_path: Path, files: list[bytes], indexed: list[str]
) -> None:
    folder = WRITERS[kind](tmp_path / "shards", files)
    first = open_shards(folder)
    assert sorted(indexed) == [f"train-00{number}.{kind}" for number in range(3)]
    indexed.clear()
    assert open_shards(folder).training.fingerprint == first.training.fingerprint
    assert open_shards(folder).file_statuses == first.file_statuses
    assert indexed == []
    files[12] = encoded(np.zeros((20, 24, 3), np.uint8))
    WRITERS[kind](tmp_path / "new", files)
    (tmp_path / "new" / f"train-001.{kind}").replace(folder / f"train-001.{kind}")
    changed = open_shards(folder)
    assert indexed == [f"train-001.{kind}"]
    assert changed.training.fingerprint != first.training.fingerprint
    (folder / f"train-000.{kind}").unlink()
    fewer = open_shards(folder)
    assert indexed == [f"train-001.{kind}"]
    assert set(fewer.training.digests) < set(changed.training.digests)
    assert {name.partition("/")[0] for name in fewer.training.names} == {
        f"train-001.{kind}",
        f"train-002.{kind}",
    }


def test_an_image_that_changes_later_is_noticed(tmp_path: Path, files: list[bytes]) -> None:
    folder = write_tars(tmp_path / "shards", files)
    data = open_shards(folder, cache_mib=0)
    shard = folder / "train-001.tar"
    name = next(name for name in data.training.names if name.startswith("train-001.tar"))
    content, file = shard.read_bytes(), files[int(name[-8:-4])]
    shard.write_bytes(content.replace(file, file[:-1] + b"\0"))
    list(batches(data))
    assert [(file.name, file.reason) for file in data.late_file_statuses] == [
        (name, "has changed since the index of its shard was made")
    ]


@pytest.mark.parametrize("change", ["gone", "shorter"])
def test_a_shard_that_vanishes_stops_the_training(change: str, tmp_path: Path, files: list[bytes]) -> None:
    folder = write_tars(tmp_path / "shards", files)
    data = open_shards(folder, cache_mib=0)
    shard = folder / "train-001.tar"
    if change == "gone":
        shard.unlink()
        message = r"shard '.*train-001.tar' cannot be read \(no such file or directory\): restore it"
    else:
        shard.write_bytes(shard.read_bytes()[:2000])
        message = r"shard '.*train-001.tar' is shorter than its \d+ bytes: restore it"
    with pytest.raises(FlatvqError, match=message) as caught:
        batches(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_images_are_named(kind: str, tmp_path: Path, files: list[bytes]) -> None:
    files[3], files[7], files[9] = files[3][:60], b"text", b""
    data = open_shards(WRITERS[kind](tmp_path / "shards", files))
    suffix = ".png" if kind == "tar" else ""
    names = {
        f"train-000.{kind}/{number:04}.png" if suffix else f"train-000.{kind}/{number}"
        for number in (3, 7, 9)
    }
    assert {file.name for file in data.file_statuses if file.status == "unreadable"} == names
    assert len(data.training) + len(data.validation) == COUNT - 3
    again = open_shards(tmp_path / "shards")
    assert again.file_statuses == data.file_statuses
    with pytest.raises(FlatvqError, match=r"3 of 24 images in shards '.*' cannot be read, such as"):
        open_shards(tmp_path / "shards", max_unreadable=0.1)


def damage(kind: str, content: bytes) -> bytes:
    middle = content.index(b"0004.png") if b"0004.png" in content else len(content) // 2
    if kind == "in a member":
        return content[: middle + 600]
    if kind == "between members":
        return content[:middle]
    if kind == "header":
        return content[: middle + 100] + b"\xff" * 100 + content[middle + 200 :]
    if kind == "first header":
        return b"\xff" * 512 + content[512:]
    if kind == "compressed":
        import gzip

        return gzip.compress(content)
    return b""


@pytest.mark.parametrize(
    "kind", ["in a member", "between members", "header", "first header", "compressed", "empty"]
)
def test_a_damaged_tar_is_one_line(kind: str, tmp_path: Path, files: list[bytes]) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(damage(kind, tar_bytes(named(files[:8]))))
    with pytest.raises(
        FlatvqError, match=r"the tar file '.*a.tar' cannot be read \(.*\): write it"
    ) as caught:
        open_shards(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 3, 4, 100, -4, -100])
def test_a_damaged_parquet_is_one_line(cut: int, tmp_path: Path, files: list[bytes]) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(files[:8])[:cut])
    with pytest.raises(FlatvqError, match=r"the parquet file '.*a.parquet' cannot be read \(.*\)") as caught:
        open_shards(path)
    assert "\n" not in str(caught.value)


def test_wrong_names_say_what_is_there(tmp_path: Path, files: list[bytes]) -> None:
    folder = write_parquets(tmp_path / "shards", files)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    wrong: dict[str, dict[str, object]] = {
        r"has no column 'img': set data.image_column; it has label, image": {"image_column": "img"},
        r"column 'label' of the parquet file '.*' holds no images \(int64\)": {"image_column": "label"},
        r"data.path is empty: set data.path": {"path": ""},
        r"no .tar or .parquet shard at '.*empty': check data.path": {"path": tmp_path / "empty"},
        r"no .tar or .parquet shard at '.*absent.tar': check data.path": {"path": tmp_path / "absent.tar"},
        r"no .tar or .parquet shard at '.*\*.tar': check data.validation_path": {
            "validation_path": str(folder / "*.tar")
        },
        r"'.*a.txt' is neither a folder nor a .tar or .parquet file: check data.path": {
            "path": tmp_path / "a.txt"
        },
        r"'nothing://a/b.tar' cannot be reached \(.*\): check data.path": {"path": "nothing://a/b.tar"},
    }
    for message, changes in wrong.items():
        with pytest.raises(FlatvqError, match=message) as caught:
            open_shards(**{"path": folder, **changes})
        assert "\n" not in str(caught.value)


def test_a_block_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 300, 300, 3), np.uint8)
    (tmp_path / "a.parquet").write_bytes(parquet_bytes([encoded(pixels) for pixels in noise], rows=8))
    message = "a row group of shard 'a.parquet' takes 2 MiB, too much for data.shuffle_mib 16: raise it to 17"
    with pytest.raises(FlatvqError, match=message):
        open_shards(tmp_path, shuffle_mib=16)
    open_shards(tmp_path, shuffle_mib=17)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("*.tar", 3),
        ("train-{000..001}.tar", 2),
        ("{train-002.tar,train-000.tar}", 2),
        ("", 3),
        ("train-00?.tar", 3),
    ],
)
def test_patterns(pattern: str, count: int, tmp_path: Path, files: list[bytes]) -> None:
    folder = write_tars(tmp_path / "shards [1]", files)
    listed = list_shards(f"{folder if not set(pattern) & set('*?') else tmp_path / 'shards*'}/{pattern}", "x")
    assert len(listed) == count
    assert [shard.name for shard in listed] == sorted(shard.name for shard in listed)


def test_shards_of_several_folders_have_distinct_names(tmp_path: Path, files: list[bytes]) -> None:
    write_tars(tmp_path / "shards" / "a", files[:12])
    write_tars(tmp_path / "shards" / "b", files[12:])
    data = open_shards(tmp_path / "shards")
    names = [*data.training.names, *data.validation.names]
    assert len(set(names)) == COUNT
    assert {name.partition("/")[0] for name in names} == {"a", "b"}


def test_the_suffix_selects_members(tmp_path: Path, files: list[bytes]) -> None:
    members = [
        (f"{number:02}.{suffix}", file)
        for number, file in enumerate(files[:12])
        for suffix, file in (("rgb.PNG", file), ("seg.png", files[number + 12]))
    ]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    chosen = open_shards(tmp_path / "a.tar", image_suffix="rgb.png")
    assert len(chosen.training) + len(chosen.validation) == 12
    assert all(name.endswith("rgb.PNG") for name in chosen.training.names)
    everything = open_shards(tmp_path / "a.tar")
    assert len(everything.training) + len(everything.validation) == 24


def test_members_of_the_same_name_are_distinct(tmp_path: Path, files: list[bytes]) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes([("a.png", file) for file in files[:6]]))
    data = open_shards(tmp_path / "a.tar")
    assert sorted([*data.training.names, *data.validation.names]) == [
        "a.tar/a.png",
        *(f"a.tar/a.png ({number})" for number in range(2, 7)),
    ]


def test_other_shards_are_held_out_without_their_copies(
    tmp_path: Path, files: list[bytes], picture: Picture
) -> None:
    path = write_tars(tmp_path / "train", files)
    held_out = write_parquets(tmp_path / "held out", [encoded(picture(99)), files[5]])
    data = open_shards(path, validation_path=str(held_out / "*.parquet"), cache_mib=0)
    assert data.validation.names == ("train-000.parquet/0", "train-000.parquet/1")
    assert len(data.training) == COUNT - 1
    assert ("train-000.tar/0005.png", "a copy of held-out 'train-000.parquet/1'") in [
        (file.name, file.reason) for file in data.file_statuses
    ]
    assert len(open_shards(path, limit=6).training) == 6


def test_images_set_aside_are_read_ahead_too(
    tmp_path: Path, files: list[bytes], ranges: list[tuple[str, int, int]]
) -> None:
    data = open_shards(write_tars(tmp_path / "shards", files), cache_mib=0)
    ranges.clear()
    for part in set_aside(data.training, 0.3):
        before = len(ranges)
        crops = TrainingCrops(part, DataRecipe(crop=16), seed=0, batch_size=len(part))
        assert sorted(next(iter(crops.batches(0, 1))).names) == sorted(part.names)
        assert len(ranges) - before <= 3
        before = len(ranges)
        assert [name for name, _ in evaluation_crops(part, 16)] == list(part.names)
        assert len(ranges) - before <= 3


def test_whole_shards_are_opened_for_evaluation(tmp_path: Path, files: list[bytes]) -> None:
    folder = write_tars(tmp_path / "shards", files)
    opened = open_images(str(folder / "*.tar"), crop=16, cache_mib=0)
    others = open_images(as_folder(tmp_path / "folder", files), crop=16)
    assert opened.images.fingerprint == others.images.fingerprint


def test_the_suffix_belongs_to_shards() -> None:
    with pytest.raises(ValueError, match="image_suffix=jpg needs source=shards, not folder,"):
        DataRecipe(source="folder", path="x", image_suffix="jpg")


def test_the_keys_of_shards_do_not_change_the_identity_of_other_recipes() -> None:
    assert not {"shuffle_mib", "image_suffix"} & TrialRecipe().identifying()["data"].keys()
    trial = TrialRecipe(data=DataRecipe(source="shards", path="x", shuffle_mib=64))
    assert trial.identifying()["data"]["shuffle_mib"] == 64
