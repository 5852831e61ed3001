"""`examine` requires the images that the run was trained on, and the tokenizer of its record."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from flatvq.errors import FlatvqError
from flatvq.levels import examine
from flatvq.recipe import StudyRecipe, parse
from flatvq.study import StudyData, plan_study, run_trials, write_study

LEVEL = {"codebook_size": 4, "code_dim": 4}
RECIPE = {
    "data": {"source": "folder", "path": "pictures", "crop": 16, "validation_share": 0.3},
    "model": {"width": 8, "residual_width": 4, "residual_blocks": 1},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
    "train": {"steps": 2, "batch_size": 2, "precision": "float32", "compile": "never"},
    "evaluate": {"samples": 1},
    "arms": {
        "two": {"model": {"levels": [LEVEL, {**LEVEL, "downsample": 2}]}},
        "one": {"model": {"levels": [{**LEVEL, "codebook_size": 8}]}},
    },
    "match": {"unmatched": ["one"]},
    "seeds": [0],
}


def write_picture(folder: Path, name: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "pictures" / name)


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten pictures, and the study of a hierarchy and a single level on them."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "pictures").mkdir()
    for number in range(10):
        write_picture(folder, f"{number}.png", number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = plan_study(parse(StudyRecipe, RECIPE), "mine")
        data = StudyData(plan)
        outcomes = run_trials(plan, folder / "st", data, lambda progress: None)
        write_study(plan, outcomes, data, folder / "st")
    return folder


@pytest.fixture
def runs(finished_study: Path, tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    """The runs of the hierarchy and of the single level in a copy, which is the working folder."""
    shutil.copytree(finished_study, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (two,), (one,) = ((tmp_path / "st" / "runs" / arm).iterdir() for arm in ("two", "one"))
    return two, one


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def test_the_record_identifies_images_and_tokenizers(runs: tuple[Path, Path]) -> None:
    two, one = runs
    record = examine(two, steps=2)
    assert record == json.loads((two / "levels.json").read_text())
    assert record["identity"] == json.loads((two / "identity.json").read_text())
    assert record["tokenizer"] == weights(two)
    assert record["single_level_counterpart"]["tokenizer"] == weights(one)


def test_other_images_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    write_picture(tmp_path, "new.png", 99)
    message = r"was started with .* images \d \(\w{8}\), now .* or train it again"
    with pytest.raises(FlatvqError, match=message):
        examine(runs[0], steps=2)
    assert not (runs[0] / "levels.json").exists()


def test_a_run_without_an_identity_is_refused(runs: tuple[Path, Path]) -> None:
    (runs[0] / "identity.json").unlink()
    with pytest.raises(FlatvqError, match=r"started without identity\.json"):
        examine(runs[0], steps=2)


def test_a_single_level_of_other_images_is_not_compared(runs: tuple[Path, Path]) -> None:
    two, one = runs
    stored = json.loads((one / "identity.json").read_text())
    other = {"images": 3, "fingerprint": "0123456789abcdef"}
    (one / "identity.json").write_text(json.dumps({**stored, "validation": other}))
    with pytest.raises(
        FlatvqError, match=rf"'.*{one.name}' was started with held-out images 3 \(01234567\), now"
    ):
        examine(two, steps=2)


@pytest.mark.parametrize("arm", [0, 1])
def test_weights_that_are_not_those_of_the_record_are_refused(runs: tuple[Path, Path], arm: int) -> None:
    run = runs[arm]
    path, before = run / "model" / "model.safetensors", weights(run)
    tensors = load_file(path)
    name = next(name for name, value in tensors.items() if value.dtype == np.float32)
    save_file({**tensors, name: tensors[name] + 1}, path)
    named = (
        rf"'.*{run.name}/model' has weights {weights(run)[:8]}, but metrics.json is of weights {before[:8]}"
    )
    with pytest.raises(FlatvqError, match=named):
        examine(runs[0], steps=2)
