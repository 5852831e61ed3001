"""Errors in text and contrast of fine patterns as metrics of a trial and of a study."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluate.filters import Filter, gaussian_blur
from tests.train.conftest import SmallRecipe

from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.evaluate import legibility
from flatvq.evaluate.benchmarks import measure_benchmarks
from flatvq.evaluate.detail import evaluate_detail
from flatvq.evaluate.legibility import Reader
from flatvq.model import load_tokenizer
from flatvq.recipe import EvaluateRecipe, StudyRecipe, TrialRecipe, load_recipe, parse
from flatvq.records import read_metrics
from flatvq.study.plan import plan_study, trial_key
from flatvq.tokenizers import load
from flatvq.train import run_trial

pytestmark = pytest.mark.slow


def asking(recipe: TrialRecipe, **keys: bool) -> TrialRecipe:
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=keys)})


def test_detail_is_measured_at_the_end_of_a_trial(small_recipe: SmallRecipe, tmp_path: Path) -> None:
    recipe = asking(small_recipe(steps=5), detail=True)
    run_trial(recipe, tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    octaves = evaluate_detail(load(tmp_path / "run"), side=recipe.data.crop)["octaves"]
    kept = [row["gratings"]["contrast_kept"]["mean"] for row in octaves]
    assert metrics.value("contrast_kept") == pytest.approx(fmean(kept))
    assert metrics.value("fine_contrast_kept") == pytest.approx(kept[0])
    assert metrics.value("text_error_rate") is None
    assert load_tokenizer(tmp_path / "run/model").recipe == recipe.model


def test_nothing_is_measured_unless_it_is_asked_for(small_recipe: SmallRecipe, tmp_path: Path) -> None:
    run_trial(small_recipe(steps=5), tmp_path / "run")
    stored = json.loads((tmp_path / "run/metrics.json").read_text())
    assert not stored.keys() & {"contrast_kept", "fine_contrast_kept", "text_error_rate"}


def test_a_filter_keeps_the_contrast_of_its_transfer_function() -> None:
    recipe = EvaluateRecipe(detail=True)
    same = measure_benchmarks(Filter(lambda images: images), recipe, 64)
    assert same == {"contrast_kept": pytest.approx(1.0), "fine_contrast_kept": pytest.approx(1.0)}
    half = measure_benchmarks(Filter(lambda images: 0.5 + (images - 0.5) / 2), recipe, 64)
    # Rounding to 8 bits changes an amplitude of 32 by at most half a level.
    assert half["contrast_kept"] == pytest.approx(0.5, abs=0.02)
    blurred = measure_benchmarks(Filter(gaussian_blur(1.0)), recipe, 64)
    assert blurred["fine_contrast_kept"] < 0.2 < blurred["contrast_kept"] < 1


def test_errors_in_text_are_the_mean_over_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees nothing in an image without ink, and reads all else perfectly."""
    from flatvq.evaluate.text_pages import pages_of

    texts = {
        line.of(page.pixels).tobytes(): line.text
        for size in legibility.SIZES
        for page in pages_of(size, 256, 8, seed=0)
        for line in page.lines
    }

    def read(line: np.ndarray[Any, Any]) -> str:
        return texts.get(line.tobytes(), "")

    monkeypatch.setattr(legibility, "load_reader", lambda: Reader("perfect", read))
    blank = Filter(torch.ones_like)
    assert measure_benchmarks(blank, EvaluateRecipe(text=True), 64) == {"text_error_rate": 1.0}
    same = Filter(lambda images: images)
    assert measure_benchmarks(same, EvaluateRecipe(text=True), 64) == {"text_error_rate": 0.0}


def test_a_missing_reader_stops_before_anything_is_trained(
    small_recipe: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legibility.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'flatvq\[text\]'"):
        run_trial(asking(small_recipe(steps=5), text=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    study = load_recipe("photographs", ["evaluate.text=true"])
    with pytest.raises(MissingExtraError, match=r"flatvq\[text\]"):
        plan_study(study, "study")


def test_small_crops_have_no_octave(small_recipe: SmallRecipe, tmp_path: Path) -> None:
    recipe = small_recipe(steps=5)
    small = recipe.model_copy(update={"data": recipe.data.model_copy(update={"crop": 4})})
    with pytest.raises(FlatvqError, match="crops of 4 pixels are too small"):
        run_trial(asking(small, detail=True), tmp_path / "run")


@pytest.mark.parametrize(
    ("metric", "key"),
    [("text_error_rate", "text"), ("contrast_kept", "detail"), ("coded_bits_per_image", "prior_images")],
)
def test_a_compared_metric_must_be_measured(metric: str, key: str) -> None:
    with pytest.raises(FlatvqError, match=f"metric '{metric}' needs evaluate.{key}"):
        load_recipe("photographs", [f"metric={metric}", "margin=0.02"])
    value = "9" if key == "prior_images" else "true"
    measured = [f"metric={metric}", "margin=0.02", f"evaluate.{key}={value}"]
    assert load_recipe("photographs", measured).metric == metric


def test_recipes_without_the_new_keys_keep_their_names() -> None:
    """The hash of a trial is that of versions without these keys."""
    recipe = load_recipe("photographs").trial("single-level-naive", 0)
    tree = recipe.model_dump(mode="json")
    for key in ("text", "detail"):
        assert tree["evaluate"].pop(key) is False
    assert tree["data"].pop("image_suffix") == ""
    assert tree["data"].pop("shuffle_mib") > 0
    expected = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]
    assert trial_key(recipe) == expected
    assert (
        len({trial_key(each) for each in (recipe, asking(recipe, text=True), asking(recipe, detail=True))})
        == 3
    )
    # An arm may turn off what the study turns on.
    study = {"evaluate": {"detail": True}, "arms": {"a": {}, "b": {"evaluate": {"detail": False}}}}
    both = parse(StudyRecipe, study)
    assert [both.trial(arm, 0).evaluate.detail for arm in ("a", "b")] == [True, False]
