"""A packed study holds the numbers that its runs recorded; a damaged record is named in the error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, parse
from flatvq.study import Outcome, StudyData, pack, plan_study, write_study
from flatvq.train import run_trial

SEED = 2**40
TREE: dict[str, Any] = {
    "data": {"source": "folder", "crop": 16, "validation_share": 0.4},
    "model": {"width": 4, "residual_width": 2, "residual_blocks": 1},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
    "train": {"steps": 2, "batch_size": 2, "precision": "float32", "compile": "never"},
    "arms": {"one": {"model": {"levels": [{"codebook_size": 8, "code_dim": 2}]}}},
    "seeds": [SEED],
}


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one trial."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "pictures").mkdir()
    for number in range(6):
        Image.effect_noise((20, 24), 40 + number).save(folder / "pictures" / f"{number}.png")
    tree = {**TREE, "data": {**TREE["data"], "path": str(folder / "pictures")}}
    plan = plan_study(parse(StudyRecipe, tree), "mine")
    (trial,) = plan.trials
    run_trial(trial.recipe, folder / "st" / trial.run)
    write_study(plan, [Outcome(trial, "done")], StudyData(plan), folder / "st")
    return folder / "st"


@pytest.fixture
def study(finished_study: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_study, tmp_path / "st")
    return tmp_path / "st"


def test_a_seed_of_more_than_32_bits_keeps_all_its_bits(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "packed")
    for name in ("images", "history", "codes"):
        seeds = pq.read_table(tmp_path / "packed" / f"{name}.parquet")["seed"].to_pylist()
        assert set(seeds) == {SEED}


def test_the_numbers_are_those_of_the_records(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "packed")
    (run,) = study.glob("runs/one/*")
    rows = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    expected = {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
    history = pq.read_table(tmp_path / "packed" / "history.parquet").to_pylist()
    losses = {row["step"]: row["value"] for row in history if row["name"] == "loss"}
    assert losses == pytest.approx(expected, rel=1e-6)  # single precision
    counts = json.loads((run / "codes.json").read_text())["levels"][0]["counts"]
    assert pq.read_table(tmp_path / "packed" / "codes.parquet")["counts"].to_pylist() == [counts]
    recipes = json.loads((tmp_path / "packed" / "recipes.json").read_text())
    trained = json.loads((run / "recipe.json").read_text())
    assert {**recipes["one"], "seed": SEED} == trained


@pytest.mark.parametrize(
    "name",
    ["records.jsonl", "codes.json", "images.parquet", "recipe.json", "identity.json", "../../../study.json"],
)
@pytest.mark.parametrize("content", [b"{}\n{}\n", b"[1]\n[2]\n", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record_is_named(study: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (run,) = study.glob("runs/one/*")
    (run / name).resolve().write_bytes(content)
    if name == "records.jsonl":  # a damaged last line is ignored
        (run / name).write_bytes(content + b'\n{"kind": "stop", "step": 2}\n')
    with pytest.raises(FlatvqError) as caught:
        pack(study, tmp_path / "packed")
    assert Path(name).name in str(caught.value)
    assert "\n" not in str(caught.value)
