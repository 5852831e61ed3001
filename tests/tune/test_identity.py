"""A search resumes, on every machine, only with the images and the version of flatvq that it started with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from PIL import Image

from flatvq import cli
from flatvq.data import open_data
from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, TuneRecipe, parse
from flatvq.train.identity import Identity
from flatvq.tune import Search, SearchSettings, open_storage, space_of


def write_picture(folder: Path, number: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for side, numbers in (("train", range(8)), ("held-out", range(8, 10))):
        (folder / side).mkdir(parents=True)
        for number in numbers:
            write_picture(folder / side, number, seed=number)
    return folder


@pytest.fixture
def settings(pictures: Path) -> SearchSettings:
    paths = {"path": str(pictures / "train"), "validation_path": str(pictures / "held-out")}
    recipe = parse(TrialRecipe, {"data": {"source": "folder", "crop": 16, **paths}})
    return SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))


def opened(settings: SearchSettings, folder: Path, url: str | None = None) -> Search:
    folder.mkdir(exist_ok=True)
    return Search(settings, folder, open_storage(folder, url))


@pytest.mark.parametrize("side", ["train", "held-out"])
def test_a_search_on_other_images_is_refused(
    settings: SearchSettings, pictures: Path, tmp_path: Path, side: str
) -> None:
    opened(settings, tmp_path / "made")
    opened(settings, tmp_path / "made")
    (path,) = (pictures / side).glob("[39].png")
    kept = path.read_bytes()
    write_picture(path.parent, int(path.stem), seed=99)
    named = "training images 8" if side == "train" else "held-out images 2"
    with pytest.raises(
        FlatvqError, match=rf"^the search 'mine' was started with {named} \(\w{{8}}\), now"
    ) as refused:
        opened(settings, tmp_path / "made")
    assert refused.value.remedy.endswith(" or choose another --out or --storage")
    # A refused search never writes its identity: after a kill, it would refuse the search itself.
    assert (tmp_path / "made" / "journal.log").read_text().count('"identity ') == 2
    path.write_bytes(kept)
    opened(settings, tmp_path / "made")


@pytest.mark.parametrize(
    ("trials", "finished", "expected"),
    [(5, 0, True), (4, 0, False), (9, 2, False), (9, 3, True), (4, 3, False)],
)
def test_a_search_ends_after_its_trials_or_its_finished_trials(
    settings: SearchSettings, tmp_path: Path, trials: int, finished: int, expected: bool
) -> None:
    limits = TuneRecipe(trials=trials, finished=finished)
    search = opened(replace(settings, tune=limits), tmp_path / "made")
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        value = 20.0 if state == TrialState.COMPLETE else None
        search.study.add_trial(optuna.trial.create_trial(state=state, value=value))
    # Three trials have ended, one of them finished, and one is running.
    assert search.needs_trials(running=1) is expected


def test_a_search_of_another_version_is_refused(
    settings: SearchSettings, tmp_path: Path, monkeypatch
) -> None:
    opened(settings, tmp_path / "made")
    monkeypatch.setattr("flatvq.train.identity.VERSION", "9.8.7")
    with pytest.raises(FlatvqError, match=r"started with flatvq .*, now 9\.8\.7: install flatvq"):
        opened(settings, tmp_path / "made")


def test_a_search_from_before_identities_is_refused(settings: SearchSettings, tmp_path: Path) -> None:
    search = opened(settings, tmp_path / "made")
    for key in search.study.user_attrs:
        if key.startswith("identity"):
            search.study.set_user_attr(key, None)
    with pytest.raises(FlatvqError, match="without a record of its images: choose another --out"):
        opened(settings, tmp_path / "made")


def test_machines_that_share_a_storage_have_the_same_images(
    settings: SearchSettings, pictures: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    opened(settings, tmp_path / "one", url)
    opened(settings, tmp_path / "two", url)
    kept = (pictures / "train" / "3.png").read_bytes()
    write_picture(pictures / "train", 3, seed=99)
    with pytest.raises(FlatvqError, match="training images"):
        opened(settings, tmp_path / "three", url)
    # The refused machine leaves no identity that would refuse the others.
    (pictures / "train" / "3.png").write_bytes(kept)
    opened(settings, tmp_path / "one", url)


def test_of_two_searches_that_begin_together_one_is_refused(
    settings: SearchSettings, pictures: Path, tmp_path: Path
) -> None:
    """The second machine reads the storage before the first has written, and writes after it."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first = opened(settings, tmp_path / "one", url)
    storage = optuna.storages.get_storage(url)
    (study,) = storage.get_all_studies()
    write_picture(pictures / "train", 3, seed=99)
    other = Identity.of(settings.incumbent, open_data(settings.incumbent.data))
    storage.set_study_user_attr(study._study_id, "identity of-another", other.to_dict())
    with pytest.raises(FlatvqError, match="training images"):
        opened(settings, tmp_path / "two", url)
    assert first.identity != other


@pytest.mark.slow
def test_tune_continued_on_other_images(pictures: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {
        "data": {
            "source": "folder",
            "path": "pictures/train",
            "validation_path": "pictures/held-out",
            "crop": 16,
        },
        "model": {
            "width": 8,
            "residual_width": 4,
            "residual_blocks": 1,
            "levels": [{"codebook_size": 8, "code_dim": 4}],
        },
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
        "train": {"steps": 4, "batch_size": 2, "precision": "float32", "compile": "never"},
        "evaluate": {"samples": 1},
        "tune": {
            "trials": 1,
            "set_aside": 0.25,
            "confirm_seeds": [7, 8],
            "space": {"code_dim": {"choices": [2, 4]}},
        },
        "workers": 2,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))

    def tune() -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["flatvq", "tune", "mine.yaml", "--out", "made"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    assert tune() == (0, "")
    made = tmp_path / "made"
    record = json.loads((made / "tune.json").read_text())
    assert (record["identity"]["training"]["images"], record["identity"]["validation"]["images"]) == (8, 2)
    (run,) = (made / "runs").iterdir()
    trial = json.loads((run / "identity.json").read_text())
    assert (trial["training"]["images"], trial["validation"]["images"]) == (6, 2)
    assert trial["validation"] != record["identity"]["validation"]
    assert json.loads((made / "confirm" / "study.json").read_text())["identity"] == record["identity"]
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    write_picture(pictures / "held-out", 8, seed=99)
    code, message = tune()
    assert (code, message.count("\n")) == (2, 1)
    assert "the search 'mine-default' was started with held-out images 2 (" in message
    after = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert {path.name for path, text in after.items() if before.get(path) != text} <= {"journal.log"}
