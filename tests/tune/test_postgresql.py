"""Searches whose trials are in a real PostgreSQL server, started by this test."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest

from flatvq.errors import FlatvqError, StorageError
from flatvq.recipe import ArmRecipe, ModelRecipe, ParameterRange, StudyRecipe, TuneRecipe
from flatvq.study import planned_trial
from flatvq.tune import Search, SearchSettings, open_storage, storage_errors
from flatvq.tune.worker import worker_folder

USER = "postgres"


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, which Debian does not put on the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))


def missing() -> str | None:
    if program("initdb") is None or program("pg_ctl") is None:
        return "a PostgreSQL server (Debian: postgresql)"
    return None if find_spec("psycopg") else "the package psycopg"


class Server:
    """A server that listens on a socket in its folder only. It refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"postgresql+psycopg://{USER}:secret@/postgres?host={folder}"
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "-D", "data")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        self._run("pg_ctl", "-D", "data", "-o", options, "-l", "log", "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def _run(self, name: str, *words: str) -> None:
        user = USER if os.geteuid() == 0 else None
        command = [str(program(name)), *words]
        subprocess.run(command, cwd=self.folder, user=user, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="flatvq-pg-"))  # a path of a socket has at most 107 bytes
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        gc.collect()
        server.stop()
        shutil.rmtree(folder)


def search(folder: Path, url: str, number: int, trials: int) -> Search:
    recipe = StudyRecipe(arms={"plain": ArmRecipe()}, model=ModelRecipe(width=8, residual_width=4))
    settings = SearchSettings(
        "mine",
        planned_trial(recipe, "plain", 0),
        TuneRecipe(trials=trials),
        {"train.learning_rate": ParameterRange(low=1e-4, high=1e-2, log=True)},
    )
    (folder / "workers").mkdir(exist_ok=True)
    return Search(settings, folder, open_storage(folder, url), worker=worker_folder(number))


pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}"),
    # Optuna keeps connections open until its storages are collected, which the fixture does within the test.
    pytest.mark.filterwarnings("ignore:<psycopg:ResourceWarning"),
]


@pytest.mark.slow
@pytest.mark.processes
def test_workers_share_a_search_and_survive_a_restart_of_the_server(server: Server, tmp_path: Path) -> None:
    def work(number: int) -> list[int]:
        mine = search(tmp_path, server.url, number, trials=12)
        numbers = []
        while len(numbers) < 2 and (suggestion := mine._new(0)):
            suggestion.suggest_float("x", 0, 1)
            mine.study.tell(suggestion, float(suggestion.number))
            numbers.append(suggestion.number)
        return numbers

    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(work, range(4)))
    assert sorted(number for each in first for number in each) == list(range(8))

    owner = search(tmp_path, server.url, 2, trials=12)
    unfinished = owner._new(0)
    assert unfinished is not None
    server.stop()
    with pytest.raises(StorageError) as failed, storage_errors(server.url):
        owner.study.tell(unfinished, 1.0)
    assert "secret" not in str(failed.value)
    assert "\n" not in str(failed.value)
    server.start()

    again = search(tmp_path, server.url, 2, trials=12)
    assert [trial.number for trial in again._unfinished()] == [unfinished.number]
    assert search(tmp_path, server.url, 1, trials=12)._unfinished() == []
    again.study.tell(again._unfinished()[0], 9.0)
    with ThreadPoolExecutor(4) as pool:
        last = [number for each in pool.map(work, range(4)) for number in each]
    assert sorted(last) == [9, 10, 11], "the limit of the recipe holds over all workers"
    trials = optuna.load_study(storage=server.url, study_name="mine").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    assert [trial.value for trial in trials[:8]] == [float(number) for number in range(8)]


@pytest.mark.slow
@pytest.mark.processes
def test_a_server_that_does_not_run_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://me:secret@/postgres?host={tmp_path}"
    started = time.monotonic()
    with pytest.raises(FlatvqError, match=r"cannot open the storage 'postgresql.*me:\*\*\*@") as refused:
        open_storage(tmp_path, url)
    assert time.monotonic() - started < 60
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
