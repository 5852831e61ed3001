"""study.json and tune.json: files that docs/records.md does not allow are neither rendered nor packed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatvq.errors import FlatvqError
from flatvq.records import load_search, load_study, seconds_per_step
from flatvq.report import write_report
from flatvq.study import pack

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "results").rglob("study.json"))
SEARCH = ROOT / "tests" / "data" / "tune-single" / "tune.json"

Edit = Callable[[dict[str, Any]], object]


def _edited(path: Path, folder: Path, edit: Edit) -> Path:
    tree = json.loads(path.read_text())
    edit(tree)
    (folder / path.name).write_text(json.dumps(tree))
    return folder


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_every_committed_study_is_valid(path: Path) -> None:
    tree, study = json.loads(path.read_text()), load_study(path.parent)
    assert [trial.psnr_db for trial in study.trials] == [trial["psnr_db"] for trial in tree["trials"]]
    assert [one.per_seed for one in study.comparisons] == [
        tuple(one["per_seed"]) for one in tree["comparisons"]
    ]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda tree: tree["trials"][0].update(psnr_db="25.1"), "trials.0.psnr_db"),
        (lambda tree: tree["trials"][0].update(psnr_db=True), "trials.0.psnr_db"),
        (lambda tree: tree["trials"][0].update(psnr_db=10**400), "trials.0.psnr_db"),
        (lambda tree: tree["trials"][0].update(psnr_db=1e6), "trials.0.psnr_db"),
        (lambda tree: tree["trials"][1].update(seed="0"), "trials.1.seed"),
        (lambda tree: tree["trials"][1].update(seed=1.0), "trials.1.seed"),
        (lambda tree: tree["trials"][0]["levels"][0].update(usage=1.5), "trials.0.levels.0.usage"),
        (
            lambda tree: tree["trials"][0]["levels"][0].update(codebook_size=0),
            "trials.0.levels.0.codebook_size",
        ),
        (lambda tree: tree["arms"][0].update(codebook_parameters=-1), "arms.0.codebook_parameters"),
        (lambda tree: tree["arms"][0].update(level_table=[]), "arms.0.level_table"),
        (lambda tree: tree["comparisons"][0].update(interval90=[0.1]), "comparisons.0.interval90.1"),
        (lambda tree: tree["comparisons"][0].update(per_seed={"0": 1}), "comparisons.0.per_seed"),
        (lambda tree: tree.update(margin_db="0.1"), "margin_db"),
        (lambda tree: tree.update(design=None), "design"),
        (lambda tree: tree.update(trials={}), "trials"),
        (lambda tree: tree.update(title=True), "title"),
        (lambda tree: tree.pop("verdict"), "verdict"),
    ],
)
def test_an_invalid_value_is_named(tmp_path: Path, edit: Edit, named: str) -> None:
    folder = _edited(STUDIES[0], tmp_path, edit)
    with pytest.raises(FlatvqError, match=re.escape(f"study.json' holds no valid '{named}'")):
        load_study(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 1, "format": 1}', "the key 'format' twice"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"format": ' + b"9" * 5000 + b"}", "is damaged"),
        (b'{"format": "' + b"x" * 50_000 + b'"}', "has format xxxx"),
        (b'{"format": 1, "title": "\\ud83d"}', "text that is not Unicode"),
    ],
)
def test_a_damaged_file_is_a_one_line_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(FlatvqError, match=re.escape(message)) as caught:
        load_study(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("run", ["runs/" + "a" * 300, "runs/" + "é" * 200, "a/" * 2000])
def test_a_run_whose_name_is_too_long_is_not_opened(tmp_path: Path, run: str) -> None:
    folder = _edited(STUDIES[0], tmp_path, lambda tree: tree["trials"][0].update(run=run))
    with pytest.raises(FlatvqError, match=rf"has a path of {len(run)} characters"):
        pack(folder, tmp_path / "packed")
    assert write_report(folder).is_file(), "the page does not need the run"


@pytest.mark.parametrize("run", ["../elsewhere", "/etc", "runs/../../x", "runs\0x"])
def test_a_run_outside_of_the_study_is_not_packed(tmp_path: Path, run: str) -> None:
    folder = _edited(STUDIES[0], tmp_path, lambda tree: tree["trials"][0].update(run=run))
    with pytest.raises(FlatvqError, match="lies outside of the study"):
        pack(folder, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("run", ["runs/" + 256 * "x", "runs/" + 128 * "ä", 2100 * "x/"])
def test_a_run_whose_path_is_too_long_is_not_packed(tmp_path: Path, run: str) -> None:
    folder = _edited(STUDIES[0], tmp_path, lambda tree: tree["trials"][0].update(run=run))
    with pytest.raises(FlatvqError, match=f"has a path of {len(run)} characters"):
        pack(folder, tmp_path / "packed")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda tree: tree["trials"][0].update(psnr_db="23"), "trials.0.psnr_db"),
        (lambda tree: tree["trials"][0].update(validations=[[100]]), "trials.0.validations.0.1"),
        (lambda tree: tree["trials"][0].update(state="ended"), "trials.0.state"),
        (lambda tree: tree["trials"][0].update(values=[1]), "trials.0.values"),
        (lambda tree: tree.update(space=["x"]), "space"),
        (lambda tree: tree.update(importances={"x": "1"}), "importances.x"),
        (lambda tree: tree["confirmed"].update(difference="0.1"), "confirmed.difference"),
        (lambda tree: tree.update(format=1), "format"),
    ],
)
def test_an_invalid_value_of_a_search_is_named(tmp_path: Path, edit: Edit, named: str) -> None:
    assert load_search(SEARCH.parent).trials
    folder = _edited(SEARCH, tmp_path, edit)
    with pytest.raises(FlatvqError, match=re.escape(f"tune.json' holds no valid '{named}'")):
        load_search(folder)


def test_a_pruned_trial_has_the_psnr_of_its_last_validation(tmp_path: Path) -> None:
    def give_up(tree: dict[str, Any]) -> None:
        tree["trials"][0] |= {"state": "pruned", "psnr_db": None, "validations": [[100, 18.5], [200, 19.25]]}
        tree["trials"][1] |= {"state": "failed", "psnr_db": None, "validations": []}

    first, second, *_ = load_search(_edited(SEARCH, tmp_path, give_up)).trials
    assert (first.reached, second.reached) == (19.25, None)


FORMAT_2 = [path for path in STUDIES if json.loads(path.read_text())["format"] == 2]


@pytest.mark.parametrize("path", FORMAT_2, ids=lambda path: path.parent.name)
def test_old_counts_are_shown_as_counts_without_codebooks_and_searches(path: Path) -> None:
    tree, study = json.loads(path.read_text()), load_study(path.parent)
    for old, arm in zip(tree["arms"], study.arms, strict=True):
        if not old["codebook_parameters"]:  # scalar quantization
            assert arm.value("multiply_adds") == old["multiply_adds"]
            continue
        assert arm.value("network_parameters") == old["parameters"]
        assert arm.value("network_multiply_adds") == old["multiply_adds"]
        searches = sum(
            math.prod(level.grid) * level.codebook_size * level.code_dim for level in arm.level_table
        )
        assert arm.value("multiply_adds") == old["multiply_adds"] + searches
        codes = sum(level.codebook_size * level.code_dim for level in arm.level_table)
        assert arm.value("parameters") == old["parameters"] + codes
    assert not {"parameters", "multiply_adds"} & set(study.match.capacities)
    for name, old in tree["match"]["residuals"].items():
        new = study.match.residuals[name]
        assert (new["network_parameters"], new["network_multiply_adds"]) == (
            old["parameters"],
            old["multiply_adds"],
        )
        spent, reference = (
            study.arm(one).value("multiply_adds") for one in (name, str(study.match.reference))
        )
        assert spent is not None
        assert new["multiply_adds"] == pytest.approx(spent / (reference or 1) - 1, abs=1e-12)


def test_the_time_of_a_step_is_the_median_of_the_records(tmp_path: Path) -> None:
    rows = [{"kind": "train", "step": 10 * n, "images_per_second": 64 / t} for n, t in enumerate((9, 2, 3))]
    others = [{"kind": "validation", "step": 5, "psnr_db": 20.0}, {"kind": "train", "step": 7}]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + others))
    assert seconds_per_step(tmp_path, 64) == pytest.approx(3.0)
    (tmp_path / "records.jsonl").write_text(json.dumps(others[0]) + "\n")
    assert seconds_per_step(tmp_path, 64) is None
    assert seconds_per_step(tmp_path / "absent", 64) is None
