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
from flatvq.data import open_data
from flatvq.model import build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, DataRecipe, ModelRecipe

pytestmark = pytest.mark.slow


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


def figures_of(output: str) -> dict[str, object]:
    """Return what does not depend on the names of images."""
    kept = json.loads(output)
    return {key: value for key, value in kept.items() if key not in ("data", "files", "measured_on")}


@pytest.mark.parametrize("shards", ["a.tar", "a.parquet"])
@pytest.mark.parametrize("options", [[], ["--full"]])
def test_evaluate(
    shards: str, options: list[str], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    results = [
        figures_of(run(capsys, monkeypatch, "evaluate", "model", "--data", data, "--json", *options))
        for data in ("pictures", shards)
    ]
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


def test_one_rule_chooses_among_several_images_of_a_sample(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Training, `flatvq encode` and `flatvq evaluate` select the same members, those of a folder of them."""
    pictures = [(path.name, path.read_bytes()) for path in sorted((place / "pictures").iterdir())]
    mask = encoded(np.full((44, 44, 3), 255, np.uint8))
    members = []
    for name, content in pictures:
        members += [(name.replace(".png", ".mask.png"), mask), (name.replace(".png", ".JPG"), content)]
    (place / "pairs.tar").write_bytes(tar_bytes(members))
    recipe = DataRecipe(source="shards", path="pairs.tar", image_suffix="jpg", crop=32)
    data = open_data(recipe)
    trained = {*data.training.names, *data.validation.names}
    run(capsys, monkeypatch, "encode", "model", "pictures", "of-folder")
    run(capsys, monkeypatch, "encode", "model", "pairs.tar", "chosen", "--image-suffix", "jpg")
    tables = {out: pq.read_table(next((place / out).glob("*.parquet"))) for out in ("of-folder", "chosen")}
    assert set(tables["chosen"]["key"].to_pylist()) == trained
    assert tables["chosen"].drop_columns("key").equals(tables["of-folder"].drop_columns("key"))
    figures = [
        figures_of(run(capsys, monkeypatch, "evaluate", "model", "--json", "--data", images, *options))
        for images, options in (("pictures", []), ("pairs.tar", ["--image-suffix", "jpg"]), ("pairs.tar", []))
    ]
    assert figures[0] == figures[1] != figures[2]
    run(capsys, monkeypatch, "encode", "model", "pairs.tar", "all")
    assert pq.read_table(next((place / "all").glob("*.parquet"))).num_rows == 2 * len(pictures)


def test_a_column_of_parquet_shards_is_chosen(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    table = pq.read_table(place / "a.parquet")
    pq.write_table(table.rename_columns(["label", "photo"]), place / "b.parquet")
    figures = [
        figures_of(run(capsys, monkeypatch, "evaluate", "model", "--json", "--data", data, *options))
        for data, options in (("a.parquet", []), ("b.parquet", ["--image-column", "photo"]))
    ]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    "words", [["encode", "model", "pictures", "out"], ["evaluate", "model", "--data", "pictures"]]
)
@pytest.mark.parametrize("option", ["--image-suffix jpg", "--image-column scan"])
def test_an_option_of_shards_needs_shards(
    option: str, words: list[str], place: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["flatvq", *words, *option.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    message = f"{option} selects images of shards, and 'pictures' is a folder: leave it out, or give"
    assert message in " ".join(capsys.readouterr().err.split())
