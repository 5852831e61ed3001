"""Shards and manifests from an attacker, read by `flatvq decode`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.cli.hostile import Case, refused
from tests.codec.tokenizers import image, tokenizer

from flatvq.codes import CodeDataset, decode_codes, encode_images
from flatvq.errors import FlatvqError
from flatvq.model import save_tokenizer
from flatvq.tokenizers import load

SHARD, MANIFEST = "codes/codes-00000-of-00001.parquet", "codes/manifest.json"
DECODE = ("decode", "tok", "codes", "out")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and the codes of six images."""
    folder = tmp_path_factory.mktemp("originals")
    model = tokenizer()
    config = {"model": model.recipe.model_dump(mode="json"), "codebook": {}}
    save_tokenizer(folder / "tok", model, {**config, "preprocess": {"resize": 0, "crop": 32}})
    (folder / "pictures").mkdir()
    for number in range(6):
        Image.fromarray(image(36, 40, number)).save(folder / "pictures" / f"{number}.png")
    encode_images(load(folder / "tok"), folder / "pictures", folder / "codes")
    return folder


@pytest.fixture
def work(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy the working folder."""
    shutil.copytree(originals, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the manifest."""

    def write(folder: Path) -> None:
        tree = json.loads((folder / MANIFEST).read_text())
        change(tree)
        (folder / MANIFEST).write_text(json.dumps(tree))

    return write


def level(key: str, value: object) -> Callable[[Path], object]:
    return manifest(lambda tree: tree["tokenizer"]["levels"][0].update({key: value}))


def shard(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    """Change the shard, and what the manifest says about its size."""

    def write(folder: Path) -> None:
        table = change(pq.read_table(folder / SHARD))
        pq.write_table(table, folder / SHARD, store_schema=False)
        sizes = {"bytes": (folder / SHARD).stat().st_size, "rows": table.num_rows}
        manifest(lambda tree: tree["shards"][0].update(sizes))(folder)

    return write


def column(name: str, values: Callable[[pa.Table], pa.Array]) -> Callable[[Path], object]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, values(table))

    return shard(change)


def indices(change: Callable[[list[int]], list[Any]], kind: pa.DataType) -> Callable[[Path], object]:
    return column(
        "level_0", lambda table: pa.array(map(change, table["level_0"].to_pylist()), pa.list_(kind))
    )


def keys(*names: str) -> Callable[[Path], object]:
    return shard(lambda table: table.slice(0, len(names)).set_column(0, "key", pa.array(names, pa.string())))


def sides(width: int) -> Callable[[Path], object]:
    return column("width", lambda table: pa.array([width] * table.num_rows, pa.uint32()))


def replaced(name: str, write: Callable[[Path], object]) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        (folder / name).unlink()
        write(folder / name)

    return prepare


def without_pixels(table: pa.Table) -> pa.Table:
    none = pa.array([[]] * table.num_rows, pa.list_(pa.uint16()))
    zero = pa.array([0] * table.num_rows, pa.uint32())
    return table.set_column(1, "width", zero).set_column(3, "level_0", none)


def beyond_the_tokenizer(folder: Path) -> None:
    """Claim a larger codebook, and use it."""
    level("codebook_size", 60_000)(folder)
    indices(lambda row: [59_999] * len(row), pa.uint16())(folder)


CASES = {
    "key above": (keys("../../x"), "is not a path inside of the folder"),
    "key above, Windows": (keys("..\\..\\x"), "is not a path inside of the folder"),
    "absolute key": (keys("/tmp/x"), "is not a path inside of the folder"),
    "drive": (keys("C:x"), "is not a path inside of the folder"),
    "empty key": (keys(""), "is not a path inside of the folder"),
    "null": (keys("a\0b"), "not printable"),
    "line break": (keys("a\nb"), r"'a\nb' has characters that are not printable"),
    "escape sequence": (keys("a\x1b[31m"), "not printable"),
    "same key": (keys("a", "a"), "'a.png' and 'a.png' cannot exist together"),
    "same path": (keys("./a", "a"), "cannot exist together"),
    "file and folder": (keys("a", "a.png/b"), "cannot exist together"),
    "long key": (keys("x" * 300), "more than 251 bytes"),
    "deep key": (keys("/".join("a" * 2000)), "more than 100 parts"),
    "nested manifest": (replaced(MANIFEST, lambda path: path.write_text("[" * 10**5)), "nested too deeply"),
    "cut manifest": (replaced(MANIFEST, lambda path: path.write_text("{")), "is damaged"),
    "manifest as folder": (replaced(MANIFEST, Path.mkdir), "no manifest.json"),
    "manifest as FIFO": (replaced(MANIFEST, os.mkfifo), "no manifest.json"),
    "linked manifest": (replaced(MANIFEST, lambda path: path.symlink_to(path.name)), "no manifest.json"),
    "id": (manifest(lambda tree: tree["tokenizer"].update(id="\x1b[31m\n" * 50)), "are of tokenizer"),
    "too many rows": (manifest(lambda tree: tree["shards"][0].update(rows=2**62)), "bytes"),
    "too few rows": (manifest(lambda tree: tree["shards"][0].update(rows=3)), "row group 0 has 6 rows"),
    "many row groups": (manifest(lambda tree: tree["settings"].update(row_group_size=1)), "row group 0 has"),
    "factor": (manifest(lambda tree: tree["tokenizer"].update(factor=8)), "other levels"),
    "factor of a level": (level("factor", 65_536), "other levels"),
    "shape": (level("index_shape", [65_536] * 60), "other levels"),
    "fewer codes": (level("codebook_size", 2), "other levels"),
    "beyond the tokenizer": (beyond_the_tokenizer, "other levels"),
    "shard elsewhere": (manifest(lambda tree: tree["shards"][0].update(name=f"../{SHARD}")), "other shards"),
    "shard as FIFO": (replaced(SHARD, os.mkfifo), "no shard at"),
    "shard as folder": (replaced(SHARD, Path.mkdir), "no shard at"),
    "linked shard": (replaced(SHARD, lambda path: path.symlink_to(path.name)), "no shard at"),
    "null keys": (column("key", lambda table: pa.array([None] * 6, pa.string())), "missing values"),
    "null rows": (column("level_0", lambda table: pa.array([None] * 6, pa.list_(pa.uint16()))), "damaged"),
    "null index": (indices(lambda row: [None, *row[1:]], pa.uint16()), "missing values"),
    "negative": (indices(lambda row: [-1] * len(row), pa.int16()), "other columns"),
    "floats": (indices(lambda row: [0.5] * len(row), pa.float32()), "other columns"),
    "beyond K": (indices(lambda row: [31] * len(row), pa.uint16()), "index 31 of a codebook of 30"),
    "no width": (sides(0), "an image of 0 x 32 pixels"),
    "no pixels": (shard(without_pixels), "an image of 0 x 32 pixels"),
    "wide": (sides(2**32 - 1), "pixels"),
    "order": (shard(lambda table: table.select(["level_0", "key", "width", "height"])), "other columns"),
    "same column": (shard(lambda table: table.append_column("level_0", table["level_0"])), "other columns"),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_codes(name: str, work: Path, run_flatvq: Any) -> None:
    prepare, message = CASES[name]
    refused(run_flatvq, Case(prepare, DECODE, message), work)


def test_large_images_are_decoded_in_small_batches(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, sizes = load(work / "tok"), []
    whole = opened.decode
    monkeypatch.setattr(
        type(opened), "decode", lambda self, grids: sizes.append(len(grids[0])) or whole(grids)
    )
    monkeypatch.setattr("flatvq.codes.decoding._USUAL_PIXELS", 32 * 32 // 2)
    assert decode_codes(opened, work / "codes", work / "out", batch_size=4) == 6
    assert sizes == [2, 2, 2]
    assert len(list((work / "out").iterdir())) == 6


def test_the_dataset_refuses_the_same(work: Path) -> None:
    sides(0)(work)
    with pytest.raises(FlatvqError, match="an image of 0 x 32 pixels"):
        _ = CodeDataset(work / "codes")[0]


def test_long_keys_can_be_written(work: Path, run_flatvq: Any) -> None:
    key = "é" * 125
    keys(key)(work)
    manifest(lambda tree: tree["images"].update(count=1))(work)
    assert run_flatvq(*DECODE)[0] == 0
    with Image.open(work / "out" / f"{key}.png") as picture:
        assert np.asarray(picture).shape == (32, 32, 3)
