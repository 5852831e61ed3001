"""If the database of a search fails, the error names it and contains its message."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest

from flatvq.errors import FlatvqError, StorageError
from flatvq.tune import open_storage, storage_errors


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
