"""A training that ends before its codebooks are initialized from data is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, TrialRecipe, merge, parse
from flatvq.study import plan_study
from flatvq.train import run_trial
from flatvq.train.initialization import require_initialization, steps_to_initialize

BOTTOM = {"downsample": 4, "codebook_size": 32}
LEVELS = (
    # 640 vectors of 256 a batch; 320 vectors of 64 a batch, from step 7.
    (BOTTOM, {"downsample": 2, "codebook_size": 16, "start": 7}),
    ({**BOTTOM, "quantizer": "residual", "stages": 3}, {"downsample": 2, "quantizer": "lookup-free"}),
)


def changed(recipe: TrialRecipe, changes: dict[str, Any]) -> TrialRecipe:
    return parse(TrialRecipe, merge(recipe.model_dump(), changes))


@pytest.mark.parametrize(
    ("levels", "start", "expected"),
    [
        (LEVELS[0], 0.0, [3, 12]),
        (LEVELS[0], 0.1, [4 + 3, 7 + 3 + 5]),
        (LEVELS[1], 0.0, [7, 0]),
        (LEVELS[1], 0.1, [4 + 7, 0]),
    ],
)
def test_the_steps_are_those_of_a_training(
    small_recipe, tmp_path: Path, levels: tuple[dict[str, Any], ...], start: float, expected: list[int]
) -> None:
    recipe = changed(small_recipe(levels), {"codebook": {"init": {"start": start}}})
    assert steps_to_initialize(recipe) == expected
    assert run_trial(recipe, tmp_path / "run")
    events = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    done = [0, 0]
    for event in events:
        if event["kind"] == "init":  # its step is counted from the start of the level
            number = event["level"]
            done[number] = max(done[number], event["step"] + recipe.model.levels[number].start + 1)
    assert done == expected


def test_a_training_that_is_too_short_is_refused_before_it_starts(small_recipe, tmp_path: Path) -> None:
    recipe = changed(small_recipe(LEVELS[0]), {"train": {"steps": 12}})
    require_initialization(recipe)
    short = changed(recipe, {"train": {"steps": 11}})
    message = (
        "level 1 of arm 'default' needs 12 steps to initialize its codebook, but train.steps is 11: raise "
        "train.steps, or lower codebook.init.vectors_per_code or codebook.init.start"
    )
    with pytest.raises(FlatvqError) as refused:
        run_trial(short, tmp_path / "run")
    assert str(refused.value) == message
    assert not (tmp_path / "run").exists()
    tree = {key: value for key, value in short.model_dump().items() if key not in ("arm", "seed")}
    with pytest.raises(FlatvqError) as refused:
        plan_study(parse(StudyRecipe, {**tree, "seeds": [0]}), "short")
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"codebook": {"init": {"kind": "random"}}},
        {"codebook": {"init": {"vectors_per_code": 1}}},
        {"train": {"parent": "somewhere"}},  # whose codes are initialized
    ],
)
def test_one_step_may_be_enough(small_recipe, changes: dict[str, Any]) -> None:
    require_initialization(changed(small_recipe(), merge({"train": {"steps": 1}}, changes)))
