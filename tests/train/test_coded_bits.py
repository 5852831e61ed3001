"""The coded bits of a trial are those of real files, less their headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.train.conftest import OTHER_LEVELS, VECTOR_LEVELS, SmallRecipe

from flatvq.codec import Codec
from flatvq.codec.container import read_contents
from flatvq.codec.prior import FittedKind
from flatvq.codec.storage import build_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.data import evaluation_crops, open_data
from flatvq.model import load_tokenizer
from flatvq.recipe import TrialRecipe
from flatvq.records import read_metrics
from flatvq.train import run_trial

pytestmark = pytest.mark.slow


def with_prior(recipe: TrialRecipe, images: int, kind: FittedKind) -> TrialRecipe:
    update = {"prior_images": images, "prior_kind": kind}
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=update)})


def files_of(recipe: TrialRecipe, run: Path, images: int, kind: FittedKind) -> list[bytes]:
    """Compress the held-out crops with a prior that is fitted to training crops, as a user would."""
    data, crop = open_data(recipe.data), recipe.data.crop
    model = load_tokenizer(run / "model")
    fitted = [each.pixels for each in evaluation_crops(data.training, crop, images)]
    # 19 images or fewer: none is held out, so the prior is fitted to all.
    assert len(fitted) < 20
    _, arrays = fit_prior(model, encode_images(model, fitted), kind)
    codec = Codec(model, build_prior(kind, recipe.model, arrays, "the prior"))
    return [codec.compress(each.pixels) for each in evaluation_crops(data.validation, crop)]


@pytest.mark.parametrize(
    ("levels", "kind"),
    [
        (VECTOR_LEVELS, "table"),
        (OTHER_LEVELS, "table"),
        (VECTOR_LEVELS, "network"),
        (VECTOR_LEVELS, "order-0"),
    ],
    ids=["vector", "others", "network", "order-0"],
)
def test_the_coded_bits_are_those_of_files(
    levels: tuple[dict[str, object], ...], kind: FittedKind, small_recipe: SmallRecipe, tmp_path: Path
) -> None:
    recipe = with_prior(small_recipe(levels=levels, steps=20), 16, kind)
    run_trial(recipe, tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    streams = []
    for number, content in enumerate(files_of(recipe, tmp_path / "run", 16, kind)):
        file = tmp_path / f"{number}.fvq"
        file.write_bytes(content)
        with file.open("rb") as stream:
            streams.append(sum(read_contents(stream, "file").entries[0].lengths))
    assert metrics.value("coded_bits_per_image") == 8 * sum(streams) / len(streams)
    # The prior knows little from 16 images; it costs no more than the end of a stream.
    assert metrics.value("coded_bits_per_image") < 1.1 * metrics.bits_per_image + 32 * len(levels)


def test_without_a_prior_there_are_no_coded_bits(small_recipe: SmallRecipe, tmp_path: Path) -> None:
    run_trial(small_recipe(steps=5), tmp_path / "run")
    assert "coded_bits_per_image" not in json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert read_metrics(tmp_path / "run").value("coded_bits_per_image") is None
