"""The search: equal bits, pruning of collapsed trials, resume after a kill, and the confirmation."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.model.capacity import capacity_of
from flatvq.recipe import LevelRecipe, ModelRecipe, ParameterRange, TrialRecipe, TuneRecipe, load_recipe
from flatvq.records import Comparison, Validation
from flatvq.records import Search as SearchRecord
from flatvq.report.tuning import history_chart, tuning_sentence
from flatvq.tune import (
    Search,
    SearchSettings,
    check_space,
    open_storage,
    space_of,
    suggest_values,
    values_of,
    with_values,
)
from flatvq.tune.attempt import collapsed_level

pytestmark = pytest.mark.processes

KNOBS = {
    "code_dim": {"choices": [2, 4]},
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "codebook.replacement.every": {"low": 1, "high": 4, "integer": True},
}


def hierarchy(*sizes: int) -> TrialRecipe:
    strides = [4, *[2] * (len(sizes) - 1)]
    levels = [
        LevelRecipe(downsample=stride, codebook_size=size)
        for stride, size in zip(strides, sizes, strict=True)
    ]
    return TrialRecipe(model=ModelRecipe(levels=tuple(levels)))


# --- the space


@given(sizes=st.lists(st.integers(16, 2048), min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_every_candidate_has_the_bits_of_the_incumbent(sizes: list[int], seed: int) -> None:
    recipe = hierarchy(*sizes)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    values = suggest_values(study.ask(), space_of(recipe))
    if "upper_bits" in values:
        cells = [256, 64, 16][: len(sizes)]
        total = sum(n * math.log2(size) for n, size in zip(cells, sizes, strict=True))
        if (total - values["upper_bits"] * sum(cells[1:])) / 256 < math.log2(1.5):
            with pytest.raises(FlatvqError, match="leave none for the bottom level"):
                with_values(recipe, values)
            return
    candidate = with_values(recipe, values)
    bits = [capacity_of(trial.model, 64).bits_per_image for trial in (recipe, candidate)]
    # K of the bottom level is rounded by half a code at most.
    smallest = candidate.model.levels[0].codebook_size
    assert abs(bits[0] - bits[1]) <= 256 * abs(math.log2(1 - 0.5 / smallest)) + 1e-6
    assert [level.downsample for level in candidate.model.levels] == [
        level.downsample for level in recipe.model.levels
    ]
    assert candidate.train.learning_rate == values["train.learning_rate"]
    assert candidate.codebook.replacement is not None
    assert candidate.codebook.replacement.every == values["codebook.replacement.every"]


def test_the_values_of_the_incumbent_change_nothing() -> None:
    for recipe in (hierarchy(256), hierarchy(256, 64)):
        same = with_values(recipe, values_of(recipe, space_of(recipe)))
        weights = {
            level.commitment_weight or recipe.train.commitment_weight
            for each in (recipe, same)
            for level in each.model.levels
        }
        assert weights == {recipe.train.commitment_weight}
        levels = [level.model_copy(update={"commitment_weight": None}) for level in same.model.levels]
        model = same.model.model_copy(update={"levels": tuple(levels)})
        assert same.model_copy(update={"model": model}) == recipe


def test_the_levels_of_a_hierarchy_can_be_searched_apart() -> None:
    recipe = hierarchy(256, 256)
    space = {
        "upper_bits": ParameterRange(choices=(4, 6, 9)),
        "model.levels.1.code_dim": ParameterRange(choices=(4, 8)),
        "model.levels.1.commitment_weight": ParameterRange(low=0.1, high=0.2),
    }
    check_space(recipe, space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(20):
        candidate = with_values(recipe, suggest_values(study.ask(), space))
        bottom, top = candidate.model.levels
        seen.add((bottom.codebook_size, top.codebook_size))
        assert (bottom.code_dim, bottom.commitment_weight) == (64, None)
        assert top.code_dim in (4, 8)
        assert 0.1 <= (top.commitment_weight or 0) <= 0.2
    # 256 cells of 8 bits and 64 of 8 bits: 64 x (8 - b) more bits for the 256 cells of the bottom.
    assert seen == {(512, 16), (362, 64), (215, 512)}


@pytest.mark.parametrize("choices", [(4, "6"), (0,), (2.5,), (40,)])
def test_bits_that_no_upper_level_can_have_are_refused(choices: tuple[object, ...]) -> None:
    with pytest.raises(FlatvqError, match="upper_bits"):
        check_space(hierarchy(256, 256), {"upper_bits": ParameterRange(choices=choices)})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(FlatvqError, match="did you mean 'learning_rate'"):
        with_values(hierarchy(16), {"train.learning_rat": 1.0})


@pytest.mark.parametrize("limits", [{}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}])
def test_a_range_without_values_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="range"):
        ParameterRange(**limits)


def test_a_collapsed_level_is_named_after_the_warm_up() -> None:
    recipe = hierarchy(256, 64)
    validation = {"step": 400, "psnr_db": 20.0, "levels": [{"perplexity": 200.0}, {"perplexity": 3.0}]}
    assert collapsed_level(recipe, Validation(**validation)) == 1
    assert collapsed_level(recipe, Validation(**{**validation, "step": 200})) is None
    more = [{"perplexity": 200.0}, {"perplexity": 4.0}]
    assert collapsed_level(recipe, Validation(**{**validation, "levels": more})) is None


def test_a_collapsed_level_of_few_codes_is_named_and_one_that_starts_late_is_not() -> None:
    recipe = hierarchy(256, 4)
    dead = Validation(step=400, psnr_db=20.0, levels=({"perplexity": 200.0}, {"perplexity": 1.2}))
    assert collapsed_level(recipe, dead) == 1
    alive = {"perplexity": 1.6}
    assert (
        collapsed_level(recipe, dead.model_copy(update={"levels": (dead.levels[0], dead.levels[0])})) is None
    )
    few = Validation(step=400, psnr_db=20.0, levels=({"perplexity": 200.0}, alive))
    assert collapsed_level(recipe, few) is None
    late = recipe.model.levels[1].model_copy(update={"start": 150, "warmup_steps": 50})
    model = recipe.model.model_copy(update={"levels": (recipe.model.levels[0], late)})
    assert collapsed_level(recipe.model_copy(update={"model": model}), dead) is None


# --- whole searches


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(pictures / f"{number}.png")
    tree = {
        "data": {"source": "folder", "path": "pictures", "crop": 32, "validation_share": 0.3},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
        "train": {"steps": 20, "batch_size": 2},
        "evaluate": {"samples": 1},
        "tune": {"trials": 5, "set_aside": 0.2, "confirm_seeds": [7, 8], "space": KNOBS},
        "workers": 2,
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def command(recipe: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "flatvq", "tune", str(recipe), "--out", "made", *words]


@pytest.mark.slow
def test_a_killed_search_resumes_and_keeps_its_finished_trials(recipe: Path, tmp_path: Path) -> None:
    log = tmp_path / "made" / "journal.log"
    first = subprocess.Popen(command(recipe), cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 240
    while log.exists() is False or finished(log) < 2:
        assert first.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = states(log)
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "made" / "runs").glob("*/metrics.json")}
    again = subprocess.run(command(recipe), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    progress = [line for line in again.stdout.splitlines() if " trials ended; " in line]
    assert progress, again.stdout
    assert all("; running: " in line for line in progress), "a line of a log is not wrapped"
    after = states(log)
    assert {number: after[number] for number in before} == before
    assert all(path.stat().st_mtime_ns == then for path, then in runs.items())
    record = json.loads((tmp_path / "made" / "tune.json").read_text())
    assert len(record["trials"]) == 5
    check_record(record, tmp_path)


@pytest.mark.slow
def test_two_searches_share_a_database(recipe: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with ExitStack() as stack:
        searches = [
            stack.enter_context(
                subprocess.Popen([*command(recipe, "--storage", url), "--out", out], cwd=tmp_path)
            )
            for out in ("machine-0", "machine-1")
        ]
        assert [search.wait(timeout=500) for search in searches] == [0, 0]
    folders = [tmp_path / f"machine-{number}" for number in range(2)]
    trained = [{path.parent.name[:4] for path in folder.glob("runs/*/metrics.json")} for folder in folders]
    # No trial runs twice. Together they run the trials of the recipe, and those that were already running.
    assert not trained[0] & trained[1]
    records = [json.loads((folder / "tune.json").read_text()) for folder in folders]
    longest = max((record["trials"] for record in records), key=len)
    assert 5 <= sum(trial["state"] in ("done", "pruned") for trial in longest) <= 8
    done = {f"{trial['number']:04}" for trial in longest if trial["state"] == "done"}
    assert done <= trained[0] | trained[1]


def check_record(record: dict, folder: Path) -> None:
    """The record agrees with the runs; the winner is the best trial; the confirmation uses new seeds."""
    done = [trial for trial in record["trials"] if trial["state"] == "done"]
    for trial in done:
        metrics = json.loads((folder / "made" / trial["run"] / "metrics.json").read_text())
        assert trial["psnr_db"] == metrics["psnr_db"]
        recipe = json.loads((folder / "made" / trial["run"] / "recipe.json").read_text())
        assert recipe["data"]["tuning_share"] == 0.2
        assert recipe["train"]["steps"] == 10
        assert recipe["train"]["learning_rate"] == trial["values"]["train.learning_rate"]
    assert record["trials"][0]["values"]["code_dim"] == 4  # that of the incumbent
    best = max(done, key=lambda trial: trial["psnr_db"])
    assert record["best"] == best["number"]
    study = json.loads((folder / "made" / "confirm" / "study.json").read_text())
    assert {trial["seed"] for trial in study["trials"]} == {7, 8}
    assert record["confirmed"] == study["comparisons"][0]
    tuned = load_recipe(str(folder / "made" / "tuned.yaml")).trial("tuned", 7)
    assert tuned.data.tuning_share == 0
    assert tuned.train.steps == 20
    assert tuned.train.learning_rate == best["values"]["train.learning_rate"]
    assert tuned.model.levels[0].code_dim == best["values"]["code_dim"]
    page = (folder / "made" / "report.html").read_text()
    assert f"{record['confirmed']['difference']:+.2f} dB" in page
    assert page.count("<circle") == sum(bool(trial["validations"]) for trial in record["trials"])


def finished(log: Path) -> int:
    return len(states(log))


def states(log: Path) -> dict[int, tuple[str, float | None]]:
    """The finished trials, by number, through Optuna itself."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(log)))
    studies = storage.get_all_studies()
    if not studies:
        return {}
    trials = storage.get_all_trials(studies[0]._study_id)
    return {trial.number: (trial.state.name, trial.value) for trial in trials if trial.state.is_finished()}


@pytest.mark.parametrize("damage", [b"garbage\n", b"{}\n", b"\xff\xfe\n", b"[1]\n", b"torn{\nmore\n"])
def test_a_damaged_journal_is_one_line(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(damage)
    with pytest.raises(FlatvqError, match=r"journal\.log' is damaged .*choose another --out"):
        open_storage(tmp_path, None)
    assert (tmp_path / "journal.log").read_bytes() == damage


def test_only_the_line_that_a_kill_cut_off_is_removed(tmp_path: Path) -> None:
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="mine")
    before = (tmp_path / "journal.log").read_bytes()
    (tmp_path / "journal.log").write_bytes(before + b'{"op_code":')
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="other")
    assert (tmp_path / "journal.log").read_bytes().startswith(before + b"{")
    assert optuna.get_all_study_names(open_storage(tmp_path, None)) == ["mine", "other"]


def test_a_search_without_a_finished_trial_says_why(recipe: Path, tmp_path: Path) -> None:
    space = "tune.space={train.learning_rate: {choices: [1.0e+30]}}"
    words = ["--set", "tune.trials=1", "--set", space]
    ended = subprocess.run(command(recipe, *words), cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    message = ended.stderr.splitlines()[-1]
    assert "no trial of 'made' finished; the last one" in message
    assert json.loads((tmp_path / "made" / "tune.json").read_text())["trials"][0]["reason"] in message


HOLD = """
import sys, time
from pathlib import Path
from flatvq.tune import open_storage
storage = open_storage(Path("made"), None)
storage._backend._lock.acquire()
print("held", flush=True)
time.sleep(600)
"""

RESUME = """
import optuna
from pathlib import Path
from flatvq.tune import open_storage
optuna.create_study(storage=open_storage(Path("made"), None), study_name="mine")
"""


def test_a_search_killed_while_it_writes_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=tmp_path, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (tmp_path / "made" / "journal.log.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
    subprocess.run([sys.executable, "-c", RESUME], cwd=tmp_path, timeout=120, check=True)


def test_a_trial_in_the_storage_that_has_not_started_is_resumed(tmp_path: Path) -> None:
    recipe = hierarchy(16)
    settings = SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))
    killed = Search(settings, tmp_path, open_storage(tmp_path, None))
    suggestion = killed._new(0)
    values = suggest_values(suggestion, settings.space)
    again = Search(settings, tmp_path, open_storage(tmp_path, None))
    (resumed,) = again._unfinished()
    assert resumed.number == suggestion.number
    assert suggest_values(resumed, settings.space) == values


def test_a_resumed_search_proposes_nothing_twice(tmp_path: Path) -> None:
    recipe = hierarchy(16)
    settings = SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))
    rates = []
    for _ in range(3):
        search = Search(settings, tmp_path, open_storage(tmp_path, None))
        rates += [suggest_values(search.study.ask(), settings.space)["train.learning_rate"] for _ in range(2)]
    assert rates[0] == recipe.train.learning_rate  # that of the incumbent, first and only once
    assert len(set(rates)) == 6


def _proposals(folder: Path, *, killed: bool) -> list[dict[str, object]]:
    """Let a search propose twelve trials; if `killed`, load it again in the middle of each."""
    folder.mkdir()
    recipe = hierarchy(16)
    settings = SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))
    search = Search(settings, folder, open_storage(folder, None))
    proposed = []
    for _ in range(12):
        suggestion = search._new(0)
        if killed:
            suggest_values(suggestion, dict(list(settings.space.items())[:3]))
            search = Search(settings, folder, open_storage(folder, None))
            (suggestion,) = search._unfinished()
        values = suggest_values(suggestion, settings.space)
        proposed.append(values)
        search.study.tell(suggestion, 20.0 - abs(values["train.commitment_weight"] - 0.3))
    return proposed


def test_a_killed_search_proposes_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    # From the ninth trial on, values are drawn jointly and depend on the results of earlier trials.
    uninterrupted = _proposals(tmp_path / "uninterrupted", killed=False)
    assert _proposals(tmp_path / "killed", killed=True) == uninterrupted
    assert len({str(values) for values in uninterrupted}) == 12


def test_an_incumbent_outside_the_space_is_drawn(tmp_path: Path) -> None:
    recipe = hierarchy(16)
    space = {
        "code_dim": ParameterRange(choices=(2, 3)),
        "train.commitment_weight": ParameterRange(low=0.1, high=1),
    }
    search = Search(
        SearchSettings("mine", recipe, TuneRecipe(), space), tmp_path, open_storage(tmp_path, None)
    )
    values = suggest_values(search._new(0), space)
    assert recipe.model.levels[0].code_dim not in (2, 3)
    assert values["code_dim"] in (2, 3)
    assert values["train.commitment_weight"] == recipe.train.commitment_weight


def test_two_searches_that_begin_together_propose_the_incumbent_once(tmp_path: Path) -> None:
    recipe = hierarchy(16)
    settings = SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    searches = [Search(settings, tmp_path / name, open_storage(tmp_path, url)) for name in ("one", "other")]
    # A trial enqueued in the storage could be taken by both: SQLite locks no row between read and write.
    assert [search.study.get_trials() for search in searches] == [[], []]
    suggestions = [search._new(0) for search in searches]
    assert [suggestion.number for suggestion in suggestions] == [0, 1]
    proposed = [suggest_values(suggestion, settings.space) for suggestion in suggestions]
    assert proposed[0] == values_of(recipe, settings.space)
    assert proposed[1] != proposed[0]


def test_a_search_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = hierarchy(16)
    settings = SearchSettings("mine", recipe, TuneRecipe(), space_of(recipe))
    Search(settings, tmp_path, open_storage(tmp_path, None))
    Search(settings, tmp_path, open_storage(tmp_path, None))
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 1234})})
    with pytest.raises(FlatvqError, match="another recipe"):
        Search(
            SearchSettings("mine", longer, TuneRecipe(), space_of(recipe)),
            tmp_path,
            open_storage(tmp_path, None),
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "tune.space={train.learning_rat: {low: 1, high: 2}}"), "did you mean 'learning_rate'"),
        (("--set", "tune.space={codebook.update.decay: {low: 0.5, high: 2}}"), "codebook.update.decay"),
        (("--arm", "nobody"), "no arm is named 'nobody'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    recipe: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ended = subprocess.run(command(recipe, *words), cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert message in ended.stderr
    assert not (tmp_path / "made").exists()


def test_a_file_in_the_place_of_the_folder_is_one_line(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    ended = subprocess.run(command(recipe), cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert (tmp_path / "made").read_text() == "mine"


def test_a_wrong_storage_is_one_line(recipe: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        command(recipe, "--storage", "nonsense://x"), cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "nonsense://x" in ended.stderr


def test_a_winner_is_confirmed_only_if_it_is_better() -> None:
    values = {"question": "asked", "a": "tuned", "b": "incumbent", "margin": 0.1}
    values |= {"difference": 0.4, "interval90": [0.2, 0.6], "seeds": 3}
    sentences = {
        verdict: tuning_sentence(Comparison(**values, verdict=verdict))
        for verdict in ("better", "worse", "equivalent", "inconclusive")
    }
    confirmed = [verdict for verdict, sentence in sentences.items() if "is confirmed" in sentence]
    assert confirmed == ["better"]
    assert "+0.40 dB, 90 % interval +0.20 to +0.60, 3 seeds" in sentences["better"]
    one_seed = {**values, "interval90": None, "seeds": 1}
    sentence = tuning_sentence(Comparison(**one_seed, verdict="inconclusive"))
    assert "no interval, 1 seed. The tuned recipe is not confirmed" in sentence


def test_the_line_of_the_history_is_the_best_so_far() -> None:
    trials = [
        {"number": number, "state": "done", "psnr_db": value, "validations": [], "values": {}}
        for number, value in enumerate([20.0, 22.0, 21.0, 23.0])
    ]
    trials.append({"number": 4, "state": "pruned", "psnr_db": None, "validations": [[10, 19.0], [20, 19.5]]})
    picture = history_chart(SearchRecord(format=2, name="search", steps=20, space={}, trials=trials))
    assert picture is not None
    assert "the best of 4 finished trials reached 23.00 dB" in picture
    assert "trial 4: 19.50 dB, pruned" in picture
    heights = [int(place.split(",")[1]) for place in picture.split('points="')[1].split('"')[0].split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[1] == heights[2]
