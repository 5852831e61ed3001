"""If the database of a search fails, the error names it and contains its message."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest

from flatvq.errors import FlatvqError, StorageError
from flatvq.tune import open_storage, require_no_password, storage_errors


def test_a_database_that_fails_during_a_search_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(storage=open_storage(tmp_path, url))
    with sqlite3.connect(tmp_path / "shared.db") as database:
        database.execute("DROP TABLE trials")
    with (
        pytest.raises(
            StorageError, match=r"the storage 'sqlite:.*shared\.db' failed .*no such table: trials"
        ),
        storage_errors(url),
    ):
        study.ask()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/shared.db", "unable to open database file"),
        ("nonsense", "ArgumentError: Could not"),
    ],
)
def test_a_database_that_cannot_be_opened_says_why(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(FlatvqError, match=message) as refused:
        open_storage(tmp_path, url)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("engine", ["slurm", "ray"])
@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:se%40cret@host/a", "postgresql://me@host/a?password=se%40cret"]
)
def test_jobs_get_no_password(url: str, engine: str, tmp_path: Path, run_flatvq) -> None:
    words = ("tune", "photographs", "--out", tmp_path / "out", "--on", engine, "--storage", url)
    code, output, errors = run_flatvq(*words)
    assert (code, output) == (2, "")
    assert errors == (
        "flatvq: the URL of --storage holds a password, which the scripts of jobs would hold, too: leave it "
        "out, and let PostgreSQL read it from ~/.pgpass, PGPASSFILE or PGSERVICEFILE\n"
    )
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "url",
    [
        None,
        "nonsense",
        "sqlite:////shared/searches.db",
        "postgresql+psycopg://me@host/a",
        "postgresql+psycopg:///?service=mine&passfile=/home/me/pass&sslmode=require",
    ],
)
def test_a_url_without_a_password_is_accepted(url: str | None) -> None:
    require_no_password(url)
