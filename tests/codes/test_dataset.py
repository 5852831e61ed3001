"""Datasets of codes: random access, streams, workers, Hugging Face datasets, and damaged folders."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

import flatvq
from flatvq.codes import CodeDataset, CodeStream, encode_images
from flatvq.codes.shards import Row, shard_bytes
from flatvq.errors import FlatvqError

pytestmark = pytest.mark.slow

Encoded = tuple[flatvq.VQVAETokenizer, Path]


@pytest.fixture
def encoded(tokenizer: flatvq.VQVAETokenizer, pictures: Path, tmp_path: Path) -> Encoded:
    """Codes of 23 pictures in 3 shards, of which the first two have row groups of 4, 4 and 2 images."""
    folder = tmp_path / "codes"
    encode_images(tokenizer, pictures, folder, shard_size=10)
    regroup(tokenizer, folder, 4)
    return tokenizer, folder


def regroup(tokenizer: flatvq.VQVAETokenizer, folder: Path, size: int) -> None:
    """Write the shards again with other row groups."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["row_group_size"] = size
    for path in folder.glob("*.parquet"):
        rows = [
            Row(row["key"], row["height"], row["width"], tuple(np.array(row[f"level_{n}"]) for n in (0, 1)))
            for row in pq.ParquetFile(path).read().to_pylist()
        ]
        path.write_bytes(shard_bytes(rows, tokenizer.levels, size))
    for shard in manifest["shards"]:
        shard["bytes"] = (folder / shard["name"]).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()
    ]


def test_items_are_the_rows_of_the_shards(encoded: Encoded) -> None:
    tokenizer, folder = encoded
    dataset = CodeDataset(folder, cached_row_groups=2)
    rows = rows_of(folder)
    assert len(dataset) == len(rows) == 23
    for place in np.random.default_rng(0).permutation(23).tolist():
        item = dataset[place]
        assert item["key"] == rows[place]["key"]
        assert item["size"] == (32, 32)
        assert [level.dtype for level in item["levels"]] == [torch.int64] * 2
        assert [tuple(level.shape) for level in item["levels"]] == [(8, 8), (2, 4, 4)]
        assert [level.flatten().tolist() for level in item["levels"]] == [
            rows[place]["level_0"],
            rows[place]["level_1"],
        ]
    assert dataset[-1]["key"] == rows[-1]["key"]
    assert dataset.levels == tokenizer.levels
    for outside in (23, -24):
        with pytest.raises(IndexError):
            dataset[outside]


def test_memory_is_bounded_by_row_groups(encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CodeDataset(encoded[1], cached_row_groups=2)
    for place in range(23):
        _ = dataset[place]
        assert sum(map(len, dataset._cache.values())) <= 8
    reads = []
    read = CodeDataset._read
    monkeypatch.setattr(CodeDataset, "_read", lambda self, group: reads.append(group) or read(self, group))
    dataset = CodeDataset(encoded[1])
    for place in range(23):
        _ = dataset[place]
    assert len(reads) == 7  # row groups of 4, 4, 2, 4, 4, 2 and 3 images
    assert len(pickle.loads(pickle.dumps(dataset))._cache) == 0


def test_codes_decode_to_reconstructions(encoded: Encoded) -> None:
    tokenizer, folder = encoded
    batch = next(iter(DataLoader(CodeDataset(folder), batch_size=5)))
    assert batch["key"] == [row["key"] for row in rows_of(folder)[:5]]
    images = tokenizer.decode(list(batch["levels"]))
    assert images.shape == (5, 3, 32, 32)
    assert all(
        torch.equal(a, b) for a, b in zip(tokenizer.decode(list(batch["levels"])), images, strict=True)
    )


def keys(dataset: torch.utils.data.Dataset[Any], **options: Any) -> list[str]:
    return [item["key"] for item in DataLoader(dataset, batch_size=None, **options)]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("kind", [CodeDataset, CodeStream])
def test_workers_read_each_image_once(encoded: Encoded, kind: Callable[[Path], Any]) -> None:
    expected = [row["key"] for row in rows_of(encoded[1])]
    read_keys = keys(kind(encoded[1]), num_workers=2, multiprocessing_context="spawn")
    assert sorted(read_keys) == sorted(expected)


def test_a_stream_has_the_order_of_the_data_set_or_a_shuffled_one(encoded: Encoded) -> None:
    expected = [row["key"] for row in rows_of(encoded[1])]
    assert keys(CodeStream(encoded[1])) == expected
    shuffled = CodeStream(encoded[1], seed=3)
    first = keys(shuffled)
    assert first != expected
    assert sorted(first) == sorted(expected)
    assert keys(shuffled) == first == keys(CodeStream(encoded[1], seed=3))
    shuffled.set_epoch(1)
    assert keys(shuffled) != first
    assert sorted(keys(shuffled)) == sorted(expected)
    assert keys(CodeStream(encoded[1], seed=4)) != first


@pytest.mark.parametrize("seed", [None, 0])
def test_the_processes_of_a_training_share_the_images(encoded: Encoded, seed: int | None) -> None:
    expected = Counter(row["key"] for row in rows_of(encoded[1]))
    streams = [CodeStream(encoded[1], seed=seed, rank=rank, world_size=3) for rank in range(3)]
    assert sum((Counter(keys(stream)) for stream in streams), Counter()) == expected
    assert [len(keys(stream)) for stream in streams] == [7, 8, 8]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_have_equal_shares(encoded: Encoded, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """In a worker, a stream reads its number and the number of workers from `get_worker_info`."""
    counts = []
    for rank, worker in itertools.product(range(2), range(workers)):
        info = SimpleNamespace(num_workers=workers, id=worker)
        monkeypatch.setattr("flatvq.codes.dataset.get_worker_info", lambda info=info: info)
        counts.append(
            Counter(item["key"] for item in CodeStream(encoded[1], seed=0, rank=rank, world_size=2))
        )
    assert sum(counts, Counter()) == Counter(row["key"] for row in rows_of(encoded[1]))
    of_ranks = [sum(map(Counter.total, counts[rank * workers : (rank + 1) * workers])) for rank in range(2)]
    assert of_ranks == [11, 12]
    sizes = [share.total() for share in counts]
    assert max(sizes) - min(sizes) <= 1


def test_an_iteration_keeps_its_order_when_the_epoch_changes(encoded: Encoded) -> None:
    stream = CodeStream(encoded[1], seed=0)
    expected = keys(stream)
    iterator = iter(stream)
    first = next(iterator)["key"]
    stream.set_epoch(1)
    assert [first, *(item["key"] for item in iterator)] == expected


@pytest.mark.parametrize("index", [slice(0, 3), 1.0, [0, 1], "first"])
def test_what_is_no_index_is_refused(encoded: Encoded, index: Any) -> None:
    with pytest.raises(FlatvqError, match=r"not a whole number: .*Subset"):
        CodeDataset(encoded[1])[index]


def test_numbers_of_other_libraries_are_indices(encoded: Encoded) -> None:
    dataset = CodeDataset(encoded[1])
    assert dataset[np.int64(3)]["key"] == dataset[torch.tensor(3)]["key"] == dataset[3]["key"]


@pytest.mark.parametrize("kind", [CodeDataset, CodeStream])
def test_a_folder_that_was_encoded_again_while_it_was_open_is_refused(
    encoded: Encoded, pictures: Path, kind: Callable[[Path], Any]
) -> None:
    """Otherwise a training would get codes of two tokenizers."""
    tokenizer, folder = encoded
    dataset = kind(folder)
    shutil.rmtree(folder)
    with torch.no_grad():
        tokenizer.quantizers[0].codebook.weight.copy_(tokenizer.quantizers[0].codebook.weight.flip(0))
    encode_images(tokenizer, pictures, folder, shard_size=10)
    with pytest.raises(FlatvqError, match="changed after its folder was opened: open the folder again"):
        next(iter(dataset))
    assert next(iter(kind(folder)))["key"]


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"rank": 2, "world_size": 2}, "rank is 2: pass a whole number from 0 to 1"),
        ({"rank": -1, "world_size": 2}, "rank is -1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_process_that_does_not_exist_is_refused(
    encoded: Encoded, option: dict[str, Any], what: str
) -> None:
    with pytest.raises(FlatvqError, match=what):
        CodeStream(encoded[1], **option)
    with pytest.raises(FlatvqError, match="epoch is -1"):
        CodeStream(encoded[1]).set_epoch(-1)


def test_hugging_face_datasets_reads_the_shards(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    files = str(encoded[1] / "*.parquet")
    table = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table.to_list() == rows_of(encoded[1])
    assert table.features["level_0"].feature.dtype == "uint16"
    arrays = table.with_format("torch")[3]
    assert torch.equal(arrays["level_0"].long().view(8, 8), CodeDataset(encoded[1])[3]["levels"][0])


def test_an_incomplete_folder_is_refused(encoded: Encoded) -> None:
    path = encoded[1] / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "shards": manifest["shards"][1:]}))
    with pytest.raises(FlatvqError, match=r"holds 2 of 3 shards: run the same `flatvq encode` again"):
        CodeDataset(encoded[1])


def replace_rows(change: Callable[[dict[str, Any]], Row]) -> Callable[[flatvq.VQVAETokenizer, Path], None]:
    def apply(tokenizer: flatvq.VQVAETokenizer, path: Path) -> None:
        rows = [change(row) for row in pq.ParquetFile(path).read().to_pylist()]
        path.write_bytes(shard_bytes(rows, tokenizer.levels, 4))

    return apply


def as_row(row: dict[str, Any], height: int = 32, above: int = 0) -> Row:
    return Row(row["key"], height, 32, (np.array(row["level_0"]) + above, np.array(row["level_1"])))


def uneven(row: dict[str, Any]) -> Row:
    """Move an index of the first image of a row group to the next one."""
    change = {"020.jpg": 1, "022.png": -1}.get(row["key"], 0)
    bottom = np.resize(np.array(row["level_0"]), 64 + change)
    return Row(row["key"], 32, 32, (bottom, np.array(row["level_1"])))


def resize(change: Callable[[flatvq.VQVAETokenizer, Path], None]) -> Any:
    """Let the manifest state the size of the damaged shard, so that its content is read."""

    def apply(tokenizer: flatvq.VQVAETokenizer, path: Path) -> None:
        change(tokenizer, path)
        manifest = json.loads((path.parent / "manifest.json").read_text())
        manifest["shards"][1]["bytes"] = path.stat().st_size
        (path.parent / "manifest.json").write_text(json.dumps(manifest))

    return apply


DAMAGES: dict[str, Callable[[flatvq.VQVAETokenizer, Path], None]] = {
    "is damaged": resize(lambda _, path: path.write_bytes(path.read_bytes()[:-9])),
    "Parquet magic bytes not found": resize(lambda _, path: path.write_bytes(b"x" * 99)),
    "it has other columns": resize(
        lambda tokenizer, path: path.write_bytes(shard_bytes([], tokenizer.levels[:1], 4))
    ),
    "has 256 indices of level 0, not 320": resize(replace_rows(lambda row: as_row(row, height=40))),
    "of a codebook of 50": resize(replace_rows(lambda row: as_row(row, above=40))),
    "other numbers of indices": resize(replace_rows(uneven)),
    "row group 0 has 4 rows of": resize(replace_rows(lambda row: as_row({**row, "key": "x" * 70_000}))),
    "row group 0 has 3 rows of": resize(
        lambda tokenizer, path: path.write_bytes(
            shard_bytes([as_row(row) for row in rows_of(path.parent)[10:13]], tokenizer.levels, 4)
        )
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_shards_are_named(encoded: Encoded, what: str) -> None:
    tokenizer, folder = encoded
    DAMAGES[what](tokenizer, folder / "codes-00001-of-00003.parquet")
    dataset = CodeDataset(folder)
    assert dataset[0]["key"]
    with pytest.raises(FlatvqError, match=what) as error:
        _ = dataset[12]
    assert "codes-00001-of-00003.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_cut_shards_are_named(encoded: Encoded) -> None:
    path = encoded[1] / "codes-00001-of-00003.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(FlatvqError, match=f"has {len(content) - 1} bytes, not {len(content)}"):
        CodeDataset(encoded[1])
    path.unlink()
    with pytest.raises(FlatvqError, match=r"no shard at .*codes-00001-of-00003\.parquet"):
        CodeDataset(encoded[1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": 2}, "'format'"),
        ({"shards": [{"name": "../x.parquet", "rows": 1, "bytes": 1, "sha256": ""}]}, "lists other shards"),
        ({"images": {"count": 2**62, "fingerprint": "", "names": ""}}, "lists other shards"),
        (
            {
                "settings": {
                    "shard_size": 2**62,
                    "row_group_size": 1,
                    "batch_size": 1,
                    "device": "",
                    "white_level": 0,
                }
            },
            "lists other shards",
        ),
        ({"tokenizer": {"id": "", "factor": 0, "channels": 3, "levels": []}}, "'tokenizer.factor'"),
    ],
)
def test_a_damaged_manifest_is_named(encoded: Encoded, change: dict[str, Any], what: str) -> None:
    path = encoded[1] / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FlatvqError, match=what):
        CodeDataset(encoded[1])
