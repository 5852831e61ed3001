"""A training that is too short for its settings says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq.quantize import DeadCodeReplacement
from flatvq.recipe import TrialRecipe, merge, parse
from flatvq.train import run_trial
from flatvq.train.initialization import steps_to_initialize
from flatvq.train.length import length_notices

BOTTOM = {"downsample": 4, "codebook_size": 32}
LEVELS = (
    # 640 vectors of 256 a batch; 320 vectors of 64 a batch, from step 7.
    (BOTTOM, {"downsample": 2, "codebook_size": 16, "start": 7}),
    ({**BOTTOM, "quantizer": "residual", "stages": 3}, {"downsample": 2, "quantizer": "lookup-free"}),
)


def changed(recipe: TrialRecipe, changes: dict[str, Any]) -> TrialRecipe:
    return parse(TrialRecipe, merge(recipe.model_dump(), changes))


@pytest.mark.slow
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


def test_a_training_that_is_too_short_says_so(
    small_recipe, photographs: Path, tmp_path: Path, run_flatvq
) -> None:
    recipe = changed(small_recipe(LEVELS[0]), {"train": {"steps": 12}, "codebook": {"replacement": None}})
    assert length_notices(recipe) == []
    short = changed(recipe, {"train": {"steps": 11}})
    message = (
        "training ends before the codebook of level 1 is initialized, which takes 12 steps: raise "
        "train.steps (11), or lower codebook.init.vectors_per_code or codebook.init.start"
    )
    notices: list[str] = []
    assert run_trial(short, tmp_path / "run", notice=notices.append)
    assert notices == [message]
    tree = {key: value for key, value in short.model_dump(mode="json").items() if key not in ("arm", "seed")}
    study = tmp_path / "short.yaml"
    study.write_text(json.dumps({**tree, "seeds": [0]}))
    code, printed, _ = run_flatvq("study", study, "--dry-run")
    assert code == 0
    assert f"Arm default: {message}." in " ".join(printed.split())


@pytest.mark.parametrize(
    "changes",
    [
        {"codebook": {"init": {"kind": "random"}}},
        {"codebook": {"init": {"vectors_per_code": 1}}},
        {"train": {"parent": "somewhere"}},  # whose codes are initialized
    ],
)
def test_one_step_may_be_enough(small_recipe, changes: dict[str, Any]) -> None:
    settings = {"train": {"steps": 1}, "codebook": {"replacement": None}}
    short = changed(small_recipe(), merge(settings, changes))
    assert length_notices(short) == []


@pytest.mark.parametrize("steps", [9, 10, 12, 13, 40])
@pytest.mark.parametrize(("every", "start", "stop"), [(5, 0, 0.5), (10, 0, 0.8), (3, 2, 1.0), (4, 1, 0.5)])
def test_a_replacement_that_never_happens_is_named(
    small_recipe, steps: int, every: int, start: int, stop: float
) -> None:
    codebook = {
        "init": {"kind": "random"},
        "replacement": {"every": every, "start": start, "stop": stop},
    }
    late = {"downsample": 2, "codebook_size": 16, "start": 3}
    recipe = changed(small_recipe((BOTTOM, late)), {"train": {"steps": steps}, "codebook": codebook})
    expected = []
    for number, own_steps in enumerate((steps, steps - 3)):
        policy = DeadCodeReplacement(every=every, start=start, stop=round(stop * own_steps))
        if not any(policy.due(step) for step in range(own_steps)):
            expected.append(f"dead codes of level {number} are never replaced")
    assert [text.split(":")[0] for text in length_notices(recipe)] == expected


def test_a_warm_up_that_is_longer_than_the_training_is_named(small_recipe) -> None:
    assert length_notices(changed(small_recipe(), {"train": {"warmup_steps": 40}})) == []
    assert length_notices(changed(small_recipe(), {"train": {"warmup_steps": 41}})) == [
        "training ends during the warm-up of the learning rate: raise train.steps (40), or lower "
        "train.warmup_steps (41)"
    ]
