"""`flatvq evaluate` and `flatvq encode` on shards give what they give on a folder of the same files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.data.dataset_files import encoded
from tests.data.shard_files import parquet_bytes, tar_bytes

from flatvq.cli import main
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model = ModelRecipe(width=8, residual_width=4)
    tree = {"model": model.model_dump(), "codebook": {}, "preprocess": {"resize": 0, "crop": 32}}
    save_tokenizer(tmp_path / "model", build_vqvae(model, CodebookRecipe()).eval(), tree)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        (pictures / f"{number}.png").write_bytes(encoded(coarse.repeat(10, 0).repeat(12 + number, 1)))
    files = [(path.name, path.read_bytes()) for path in sorted(pictures.iterdir())]
    (tmp_path / "a.tar").write_bytes(tar_bytes(files))
    (tmp_path / "a.parquet").write_bytes(parquet_bytes([content for _, content in files], rows=2))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["flatvq", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    return captured.out


@pytest.mark.parametrize("shards", ["a.tar", "a.parquet"])
@pytest.mark.parametrize("options", [[], ["--full"]])
def test_evaluate(
    shards: str, options: list[str], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    results = [
        json.loads(run(capsys, monkeypatch, "evaluate", "model", "--data", data, "--json", *options))
        for data in ("pictures", shards)
    ]
    for result in results:
        result.pop("data")
        result.pop("files")
        result.pop("measured_on")
    assert results[0] == results[1]


@pytest.mark.parametrize("shards", ["a.tar", "a.parquet"])
def test_encode(shards: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    tables = []
    for images, out in (("pictures", "of-folder"), (shards, "of-shards")):
        run(capsys, monkeypatch, "encode", "model", images, out)
        tables.append(pq.read_table(next((place / out).glob("*.parquet"))).drop_columns("key"))
    assert tables[0].equals(tables[1])


def test_no_shards(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["flatvq", "evaluate", "model", "--data", "b*.tar"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no .tar or .parquet shard at 'b*.tar': check the path" in " ".join(
        capsys.readouterr().err.split()
    )
