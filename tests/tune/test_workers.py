"""Workers of a search: each resumes its own trials, together they run as many as the recipe sets."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from benchmarks.faults.machine import Machine
from optuna.trial import TrialState
from PIL import Image

from flatvq.engines.engine import ENGINES
from flatvq.errors import FlatvqError
from flatvq.recipe import ArmRecipe, ModelRecipe, ParameterRange, StudyRecipe, TuneRecipe
from flatvq.study import planned_trial
from flatvq.study.outcome import Outcome
from flatvq.study.running import prepare
from flatvq.study.scheduler import Slot
from flatvq.train.identity import Identity
from flatvq.tune import Search, SearchSettings, open_storage
from flatvq.tune import search as search_module
from flatvq.tune.attempt import RunningAttempt
from flatvq.tune.worker import worker_folder

SPACE = {"train.learning_rate": ParameterRange(low=1e-4, high=1e-2, log=True)}


def settings(trials: int = 3, finished: int = 0) -> SearchSettings:
    model = ModelRecipe(width=8, residual_width=4)
    recipe = StudyRecipe(arms={"plain": ArmRecipe()}, model=model)
    tune = TuneRecipe(trials=trials, finished=finished)
    return SearchSettings("mine", planned_trial(recipe, "plain", 0), tune, SPACE)


def searches(folder: Path, count: int, **options: int) -> list[Search]:
    (folder / "workers").mkdir()
    return [
        Search(settings(**options), folder, open_storage(folder, None), worker=worker_folder(number))
        for number in range(count)
    ]


def test_workers_count_the_trials_of_each_other(tmp_path: Path) -> None:
    first, second = searches(tmp_path, 2)
    running = [first._new(0), second._new(0)]
    assert first.needs_trials(1)
    running.append(first._new(0))
    assert not first.needs_trials(2)
    assert not second.needs_trials(1)
    second.study.tell(running[1], 20.0)
    assert not second.needs_trials(0), "one has ended and two run"
    assert (first.own_ended, second.own_ended) == (0, 1)
    alone = Search(settings(), tmp_path, open_storage(tmp_path, None))
    assert alone.needs_trials(0), "a single process does not wait"


def test_workers_that_start_trials_at_once_add_none_too_many(tmp_path: Path, monkeypatch) -> None:
    four = searches(tmp_path, 4, trials=6)
    needs_trials = Search.needs_trials

    def slow(search: Search, running: int) -> bool:
        needed = needs_trials(search, running)
        time.sleep(0.02)  # the others read the same state
        return needed

    monkeypatch.setattr(Search, "needs_trials", slow)

    def work(search: Search) -> list[int]:
        numbers = []
        while suggestion := search._new(0):
            numbers.append(suggestion.number)
            search.study.tell(suggestion, 20.0)
        return numbers

    with ThreadPoolExecutor(4) as pool:
        numbers = [number for each in pool.map(work, four) for number in each]
    assert sorted(numbers) == list(range(6))


def test_workers_stop_after_enough_finished_trials(tmp_path: Path) -> None:
    first, second = searches(tmp_path, 2, trials=9, finished=2)
    running = [first._new(0), second._new(0)]
    assert not first.needs_trials(1)
    second.study.tell(running[1], state=TrialState.PRUNED)
    assert second.needs_trials(0)


def test_a_worker_resumes_its_own_trial_in_its_own_folder(tmp_path: Path, monkeypatch) -> None:
    first, second = searches(tmp_path, 2)
    mine, other = first._new(0), second._new(0)

    def start(outcome: Outcome, folder: Path, identity: Identity, slot: Slot) -> SimpleNamespace:
        prepare(outcome.trial, folder / outcome.trial.run, identity)
        return SimpleNamespace(run=outcome.trial.run)

    monkeypatch.setattr(search_module, "RunningTrial", start)
    runs = [
        each._start(suggestion, Slot(1, None)).running.run
        for each, suggestion in ((first, mine), (second, other))
    ]
    assert [run.parts[:3] for run in runs] == [("workers", "0000", "runs"), ("workers", "0001", "runs")]
    again = Search(settings(), tmp_path, open_storage(tmp_path, None), worker=worker_folder(1))
    (resumed,) = again._unfinished()
    assert resumed.number == other.number
    assert again._start(resumed, Slot(1, None)).running.run == runs[1]


def test_a_worker_that_lost_its_lease_reports_nothing(tmp_path: Path) -> None:
    (search,) = searches(tmp_path, 1)
    suggestion = search._new(0)

    def lost() -> None:
        raise FlatvqError("another process took 'workers/0000' over", "let it finish")

    running = SimpleNamespace(finished=lambda: True, run=tmp_path, outcome=SimpleNamespace(status="failed"))
    attempt = RunningAttempt(search.study, suggestion, running, lost)
    with pytest.raises(FlatvqError, match="took"):
        attempt.finished()
    assert search._unfinished()[0].number == suggestion.number


@pytest.mark.parametrize("number", [-1, 10_000])
def test_no_such_worker_is_one_line(number: int) -> None:
    with pytest.raises(FlatvqError, match=f"there is no worker {number}"):
        worker_folder(number)


def test_workers_of_hosts_that_share_no_lock_write_one_journal(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)  # as between two hosts
    (tmp_path / "workers").mkdir()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(storage=open_storage(tmp_path, None), study_name="mine")

    def write(worker: int) -> list[int]:
        study = optuna.load_study(storage=open_storage(tmp_path, None), study_name="mine")
        return [
            study.ask({"x": optuna.distributions.FloatDistribution(0, worker + 1)}).number for _ in range(20)
        ]

    with ThreadPoolExecutor(4) as pool:
        numbers = [number for each in pool.map(write, range(4)) for number in each]
    assert sorted(numbers) == list(range(80))
    lines = (tmp_path / "journal.log").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert not list(tmp_path.glob("*.hosts.lock"))


def test_a_lock_of_a_lost_host_is_removed(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    lock = tmp_path / "journal.log.hosts.lock"
    lock.touch()
    storage = open_storage.__globals__["_SharedLock"](tmp_path / "journal.log")
    storage.across.grace_period = 0.2
    started = time.monotonic()
    assert storage.acquire()
    assert time.monotonic() - started >= 0.2
    storage.release()
    assert not lock.exists()


# --- whole searches


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(pictures / f"{number}.png")
    tree = {
        "data": {"source": "folder", "path": str(pictures), "crop": 32, "validation_share": 0.3},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
        "train": {"steps": 20, "batch_size": 2},
        "evaluate": {"samples": 1},
        "tune": {
            "trials": 5,
            "set_aside": 0.2,
            "confirm_seeds": [7, 8],
            "space": {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        },
        "cluster": {"poll_seconds": 0.5, "cpus": 1},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.slow
@pytest.mark.processes
def test_a_search_on_a_cluster_is_complete_though_a_worker_is_killed(
    recipe: Path, tmp_path: Path, monkeypatch, run_flatvq
) -> None:
    machine = Machine(largest=100, kills=1)
    monkeypatch.setitem(ENGINES._entries, "machine", lambda recipe: machine)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ("tune", recipe, "--out", "made", "--on", "machine", "--workers", 2)
    code, output, errors = run_flatvq(*words, "--detach")
    assert (code, errors) == (0, "")
    assert "Submitted: 2 jobs." in output
    code, _, errors = run_flatvq("tune", recipe, "--out", "made")
    assert (code, errors.count("\n")) == (2, 1)
    assert "has jobs" in errors
    code, output, errors = run_flatvq(*words)
    assert code == 0, errors
    record = json.loads(Path("made/tune.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == list(range(5)), "none lost, none twice"
    for trial in record["trials"]:
        if trial["state"] == "done":
            metrics = json.loads((Path("made") / trial["run"] / "metrics.json").read_text())
            assert metrics["psnr_db"] == trial["psnr_db"]
    assert {trial["run"].split("/")[1] for trial in record["trials"]} <= {"0000", "0001"}
    study = json.loads(Path("made/confirm/study.json").read_text())
    assert {trial["seed"] for trial in study["trials"]} == {7, 8}
    assert machine.attempts == 2 + 1 + len(study["trials"])
    assert run_flatvq(*words)[0] == 0
    assert machine.attempts == 2 + 1 + len(study["trials"]), "a repeated command runs nothing"


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_worker_goes_on_with_its_trial(recipe: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "flatvq", "tune", str(recipe), "--out", "made", "--worker", "0"]
    words += ["--set", "train.steps=400", "--set", "tune.trials=2", "--set", "train.checkpoint_every=10"]
    with subprocess.Popen(words, cwd=tmp_path) as killed:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("made/workers/0000/runs/0000-*/checkpoints/step-*")):
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(storage=open_storage(tmp_path / "made", None), study_name=None)
    assert [trial.state.is_finished() for trial in study.trials] == [True, True]
    (first,) = tmp_path.glob("made/workers/0000/runs/0000-*")
    starts = [json.loads(line) for line in (first / "records.jsonl").read_text().splitlines()]
    resumed = [row["step"] for row in starts if row["kind"] == "start"]
    assert resumed[0] == 0
    assert resumed[1] >= 10


def test_options_of_a_cluster_are_checked(run_flatvq, tmp_path: Path) -> None:
    words = ("tune", "photographs", "--out", tmp_path / "out")
    for more, message in (
        (["--workers", 3], "--workers needs a cluster: add --on slurm, or leave it out"),
        (["--on", "slurm", "--worker", 3], "--worker 3 and --on slurm are both given: leave one of them out"),
    ):
        code, _, errors = run_flatvq(*words, *more)
        assert (code, errors) == (2, f"flatvq: {message}\n")
