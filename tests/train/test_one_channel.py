"""A trial on grayscale images, from recipe to record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flatvq.evaluate import evaluate_folder
from flatvq.levels import examine
from flatvq.model import load_tokenizer
from flatvq.recipe import TrialRecipe
from flatvq.train import run_trial

pytestmark = pytest.mark.slow


@pytest.fixture
def grey_recipe(small_recipe) -> TrialRecipe:
    recipe = small_recipe(steps=24)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"channels": 1})})


def test_a_trial_of_one_channel_trains_on_luma_and_leaves_greyscale(
    tmp_path: Path, photographs: Path, grey_recipe: TrialRecipe
) -> None:
    run = tmp_path / "run"
    assert run_trial(grey_recipe, run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["evaluation_protocol"] == "flatvq-1/crop-32/own-size/grey"
    names = pq.read_table(run / "images.parquet")["image"].to_pylist()
    model = load_tokenizer(run / "model")
    assert model.recipe.channels == 1
    for number in range(2):
        original = Image.open(run / "samples" / f"{number}-original.png")
        rebuilt = Image.open(run / "samples" / f"{number}-reconstruction.png")
        assert (original.mode, rebuilt.mode) == ("L", "L")
        # Samples are spread evenly over the held-out images; crops are cut from the centre.
        picture = Image.open(photographs / names[number * len(names) // 2])
        left, top = ((side - 32) // 2 for side in picture.size)
        luma = np.array(picture.crop((left, top, left + 32, top + 32)).convert("L"))
        np.testing.assert_array_equal(np.array(original), luma)
        with torch.no_grad():
            decoded = model(torch.from_numpy(luma)[None, None] / 255).reconstruction[0, 0]
        stored = np.rint(decoded.clamp(0, 1).numpy() * 255).astype(np.uint8)
        np.testing.assert_array_equal(np.array(rebuilt), stored)

    whole = evaluate_folder(model, photographs, crop=None, resize=0)
    assert whole["evaluation_protocol"] == "flatvq-1/whole/own-size/grey"
    assert whole["images"] == 24
    answers = examine(run, steps=3)
    assert {one["level"] for one in answers["replaced"]} == {0, 1}
    assert all(np.isfinite(one["psnr_db"]) for one in answers["refitted"])


def test_colour_and_greyscale_files_of_the_same_luma_train_the_same_weights(
    tmp_path: Path, photographs: Path, grey_recipe: TrialRecipe
) -> None:
    pictures = [Image.open(path).convert("L") for path in sorted(photographs.iterdir())]
    weights = []
    for mode in ("L", "RGB"):
        # The split of a file must not depend on its content here.
        sides = {name: tmp_path / mode / name for name in ("path", "validation_path")}
        for number, picture in enumerate(pictures):
            folder = sides["validation_path" if number < 4 else "path"]
            folder.mkdir(parents=True, exist_ok=True)
            picture.convert(mode).save(folder / f"{number:02}.png")
        data = grey_recipe.data.model_copy(update={name: str(folder) for name, folder in sides.items()})
        run = tmp_path / mode / "run"
        run_trial(grey_recipe.model_copy(update={"data": data}), run)
        weights.append(load_tokenizer(run / "model").state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
