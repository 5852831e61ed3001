"""A study compares only trials with the same images and the same version of flatvq."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, load_recipe, merge, parse
from flatvq.records import Study
from flatvq.report import write_report
from flatvq.study import Plan, StudyData, pack, plan_study, run_trials, write_study

pytestmark = pytest.mark.processes

Flatvq = Callable[..., tuple[int, str, str]]

TREE: dict[str, Any] = {
    "data": {"source": "folder", "path": "pictures", "crop": 16, "validation_share": 0.3},
    "model": {"width": 8, "residual_width": 4, "residual_blocks": 1},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
    "train": {"steps": 2, "batch_size": 2, "precision": "float32", "compile": "never"},
    "evaluate": {"samples": 1},
    "arms": {
        "one": {"model": {"levels": [{"codebook_size": 8, "code_dim": 4}]}},
        "two": {"model": {"levels": [{"codebook_size": 8, "code_dim": 8}]}},
    },
    "seeds": [0, 1],
    "workers": 2,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten pictures, a recipe and its finished study, `st`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "pictures").mkdir()
    for seed in range(10):
        write_picture(folder, seed)
    (folder / "mine.yaml").write_text(yaml.safe_dump(TREE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = plan_study(load_recipe("mine.yaml"), "mine")
        train(plan, folder / "st")
        write_report(folder / "st")
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch) -> dict[str, Any]:
    """The record of the finished study. The working folder is a copy of `made`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return json.loads((tmp_path / "st" / "study.json").read_text())


@pytest.fixture
def flatvq(study: dict[str, Any], run_flatvq: Flatvq) -> Flatvq:
    """Run a command in the working folder."""
    return run_flatvq


def train(plan: Plan, folder: Path) -> Study:
    data = StudyData(plan)
    return write_study(plan, run_trials(plan, folder, data, lambda progress: None), data, folder)


def write_picture(folder: Path, seed: int, name: str = "") -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "pictures" / f"{name or seed}.png")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".lease" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def finished(flatvq: Flatvq, *words: str) -> dict[str, Any]:
    code, _, err = flatvq("study", "mine.yaml", "--out", "st", *words)
    assert (code, err) == (0, "")
    return json.loads(Path("st/study.json").read_text())


def test_the_record_has_the_identity_of_its_trials(study: dict[str, Any]) -> None:
    stored = [
        json.loads((Path("st") / trial["run"] / "identity.json").read_text()) for trial in study["trials"]
    ]
    assert stored == [study["identity"]] * 4
    assert study["identity"]["training"]["images"] == study["data"]["training_images"]
    page = Path("st/report.html").read_text()
    assert study["identity"]["training"]["fingerprint"] in page
    assert study["identity"]["validation"]["fingerprint"] in page


def test_a_study_grown_by_a_seed_on_other_images_is_refused(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    before = contents(tmp_path / "st")
    write_picture(tmp_path, 99, name="3")
    code, _, err = flatvq("study", "mine.yaml", "--set", "seeds=[0, 1, 2]", "--out", "st")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("flatvq: 4 of 6 trials in 'st' cannot be resumed or compared; 'runs/one/seed-0-")
    assert "training images" in err or "held-out images" in err
    assert err.endswith(": restore the images of folder 'pictures' or add --retrain to train them again\n")
    assert contents(tmp_path / "st") == before
    write_picture(tmp_path, 3)
    grown = finished(flatvq, "--set", "seeds=[0, 1, 2]")
    assert {trial["seed"] for trial in grown["trials"] if trial["status"] == "done"} == {0, 1, 2}


def test_retrain_moves_the_old_trials_aside_and_trains_again(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    before = contents(tmp_path / "st")
    write_picture(tmp_path, 99)
    new = finished(flatvq, "--retrain")
    assert new["identity"] != study["identity"]
    for trial in new["trials"]:
        stored = json.loads((tmp_path / "st" / trial["run"] / "identity.json").read_text())
        assert stored == new["identity"]
        # The trial was trained in this call.
        assert trial["seconds"] is not None
    moved_files = contents(tmp_path / "st" / "superseded" / "1")
    kept = {name: text for name, text in before.items() if not name.startswith(("recipe.yaml", "report"))}
    assert {name: moved_files[name] for name in kept} == kept
    # Nothing differs now, so nothing is trained.
    again = finished(flatvq, "--retrain")
    assert [trial["seconds"] for trial in again["trials"]] == [trial["seconds"] for trial in new["trials"]]
    assert again["looks"] == new["looks"]
    assert all(trial["seconds_per_step"] > 0 for trial in again["trials"])
    assert {trial["precision"] for trial in again["trials"]} <= {"float32", "bfloat16"}
    write_picture(tmp_path, 98)
    moved = StudyData(plan_study(load_recipe("mine.yaml"), "mine")).set_aside(tmp_path / "st")
    assert moved == [tmp_path / "st" / "superseded" / "2" / trial["run"] for trial in new["trials"]]


def test_only_trials_that_differ_are_trained_again(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    edited = tmp_path / "st" / study["trials"][1]["run"] / "identity.json"
    edited.write_text(json.dumps({**study["identity"], "flatvq": "0.0.1"}))
    code, _, err = flatvq("study", "mine.yaml", "--out", "st")
    assert (code, err.count("\n")) == (2, 1)
    assert "1 of 4 trials" in err
    assert "started with flatvq 0.0.1, now " in err
    assert "install flatvq 0.0.1 or add --retrain" in err
    runs = [tmp_path / "st" / trial["run"] / "metrics.json" for trial in study["trials"]]
    before = [run.stat().st_mtime_ns for run in runs]
    finished(flatvq, "--retrain")
    assert [run.stat().st_mtime_ns != time for run, time in zip(runs, before, strict=True)] == [
        False,
        True,
        False,
        False,
    ]


def test_a_trial_whose_recipe_was_edited_is_refused(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "st" / study["trials"][2]["run"] / "recipe.json"
    tree = json.loads(path.read_text())
    tree["train"]["learning_rate"] = 0.5
    path.write_text(json.dumps(tree))
    code, _, err = flatvq("study", "mine.yaml", "--out", "st")
    assert (code, err.count("\n")) == (2, 1)
    assert "1 of 4 trials" in err
    assert "started with another recipe: restore its recipe.json or add --retrain" in err


def test_an_unfinished_trial_is_refused_too(flatvq: Flatvq, study: dict[str, Any], tmp_path: Path) -> None:
    for trial in study["trials"][1:]:
        shutil.rmtree(tmp_path / "st" / trial["run"])
    run = tmp_path / "st" / study["trials"][0]["run"]
    (run / "metrics.json").unlink()
    write_picture(tmp_path, 99)
    assert "1 of 4 trials" in flatvq("study", "mine.yaml", "--out", "st")[2]


def test_trials_without_an_identity_are_refused(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    for trial in study["trials"]:
        (tmp_path / "st" / trial["run"] / "identity.json").unlink()
    code, _, err = flatvq("study", "mine.yaml", "--out", "st")
    assert (code, err.count("\n")) == (2, 1)
    assert "4 of 4 trials" in err
    assert "started without identity.json" in err


def test_nothing_is_moved_while_a_trial_is_being_trained(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    write_picture(tmp_path, 99)
    before = contents(tmp_path / "st")
    with (tmp_path / "st" / study["trials"][3]["run"] / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = flatvq("study", "mine.yaml", "--out", "st", "--retrain")
    assert (code, err.count("\n")) == (75, 1)
    assert "another process is training in" in err
    assert contents(tmp_path / "st") == before


@pytest.mark.usefixtures("study")
def test_images_that_change_while_a_study_runs(tmp_path: Path) -> None:
    plan = plan_study(load_recipe("mine.yaml", ["workers=1"]), "mine")
    data = StudyData(plan)
    folder = tmp_path / "another"

    def watch(progress: Any) -> None:
        if any(outcome.status == "done" for outcome in progress.outcomes):
            write_picture(tmp_path, 99, name="0")

    outcomes = run_trials(plan, folder, data, watch)
    status = [outcome.status for outcome in outcomes]
    assert status == ["done", "failed", "failed", "failed"]
    for outcome in outcomes:
        if outcome.status == "failed":
            assert " images " in (outcome.error or "")
            assert ", now " in (outcome.error or "")
    record = write_study(plan, outcomes, data, folder)
    assert [trial.status for trial in record.trials] == status
    with pytest.raises(FlatvqError, match=r"4 of 4 trials"):
        StudyData(plan).check(folder, "train them again")


def test_trials_of_several_identities_are_neither_compared_nor_packed(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    pack(tmp_path / "st", tmp_path / "packed")
    assert pq.read_table(tmp_path / "packed" / "images.parquet").num_rows
    plan = plan_study(load_recipe("mine.yaml"), "mine")
    data = StudyData(plan)
    outcomes = run_trials(plan, tmp_path / "st", data, lambda progress: None)
    edited = tmp_path / "st" / study["trials"][2]["run"] / "identity.json"
    other = {"images": 3, "fingerprint": "0123456789abcdef"}
    edited.write_text(json.dumps({**study["identity"], "training": other}))
    before = (tmp_path / "st" / "study.json").read_bytes()
    with pytest.raises(FlatvqError, match=r"1 of 4 trials.*started with training images 3 \(01234567\), now"):
        write_study(plan, outcomes, data, tmp_path / "st")
    assert (tmp_path / "st" / "study.json").read_bytes() == before
    code, _, err = flatvq("pack", "st", "mixed")
    assert (code, err.count("\n")) == (2, 1)
    assert "has 3 (01234567): run the study again" in err
    edited.unlink()
    assert flatvq("pack", "st", "mixed")[0] == 2


def test_a_study_from_before_identities_is_packed_and_reported(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    del study["identity"]
    for arm in study["arms"]:
        del arm["identity"]
    (tmp_path / "st" / "study.json").write_text(json.dumps(study))
    for path in (tmp_path / "st").rglob("identity.json"):
        path.unlink()
    assert pack(tmp_path / "st", tmp_path / "packed")
    assert "Training</dt><dd>not recorded" in write_report(tmp_path / "st").read_text()


def test_arms_that_are_evaluated_on_different_images_are_not_compared(
    flatvq: Flatvq, study: dict[str, Any], tmp_path: Path
) -> None:
    def planned(data: dict[str, object]) -> StudyRecipe:
        arm = {"model": TREE["arms"]["one"]["model"], "data": data}
        return parse(StudyRecipe, merge(TREE, {"arms": {"two": arm}, "compare": [["one", "two"]]}))

    held_out = tmp_path / "held-out"
    held_out.mkdir()
    shutil.copy(tmp_path / "pictures" / "0.png", held_out)
    shutil.copy(tmp_path / "pictures" / "1.png", held_out)
    for data, named in (
        ({"validation_path": "held-out"}, r"one has held-out images \d \(\w{8}\), two has 2 \("),
        (
            {"resize": 20},
            "one has evaluation protocol flatvq-1/crop-16/own-size, two has flatvq-1/crop-16/short",
        ),
        (
            {"white_level": 4095},
            "one has evaluation protocol flatvq-1/crop-16/own-size, two has .*-size/white-4095",
        ),
    ):
        with pytest.raises(FlatvqError, match=named):
            StudyData(plan_study(planned(data), "two"))
    # Arms may be trained on different images.
    record = train(plan_study(planned({"limit": 2}), "two"), tmp_path / "another")
    one, two = record.arms
    assert one.identity is None
    assert record.identity is not None
    assert two.identity is not None
    assert two.identity.training.images == 2
    assert two.identity.validation == record.identity.validation
    assert pack(tmp_path / "another", tmp_path / "packed")


@pytest.mark.parametrize(
    ("compared", "c", "d", "named"),
    [
        ({"interactions": [["a", "b", "c", "d"]]}, {}, {"resize": 20}, "c has evaluation protocol .*, d has"),
        ({"interactions": [["a", "b", "c", "d"]]}, {"resize": 20}, {"resize": 20}, None),
        ({"curves": [{"a": ["a", "b"], "b": ["c", "d"]}]}, {}, {"resize": 20}, "a has evaluation .*, d has"),
        ({"curves": [{"a": ["a", "b"], "b": ["c", "d"]}]}, {"resize": 20}, {"resize": 20}, "a has .*, c has"),
        ({"curves": [{"a": ["a", "b"], "b": ["c", "d"]}]}, {}, {}, None),
    ],
)
def test_all_arms_of_which_a_difference_is_taken_are_evaluated_on_the_same_images(
    study: dict[str, Any], compared: dict[str, Any], c: dict[str, int], d: dict[str, int], named: str | None
) -> None:
    data = {"a": {}, "b": {}, "c": c, "d": d}
    rates = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    arms = {name: {"data": data[name], "train": {"learning_rate": rates[name]}} for name in data}
    tree = {**TREE, "model": {**TREE["model"], **TREE["arms"]["one"]["model"]}, "arms": arms}
    plan = plan_study(parse(StudyRecipe, {**tree, "compare": [["a", "b"]], **compared}), "four")
    if named is None:
        assert StudyData(plan).split
        return
    with pytest.raises(FlatvqError, match=named):
        StudyData(plan)
