"""Files that are added to a folder together."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flatvq.staging import adding_files


def _tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_files_are_added_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("kept")
    (tmp_path / ".dead.999999999-1.partial").write_text("of a killed process")
    with adding_files(tmp_path) as stage:
        (stage / "a").write_text("new")
        (stage / "sub").mkdir()
        (stage / "sub" / "c").write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert _tree(tmp_path) == {"a": "new", "b": "kept", "sub/c": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "sub"]


@pytest.mark.parametrize("error", [ValueError("any"), KeyboardInterrupt()])
def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")

    def fail(folder: Path) -> None:
        with adding_files(folder) as stage:
            (stage / "a").write_text("new")
            raise error

    for folder in (tmp_path, tmp_path / "deep" / "er"):
        with pytest.raises(type(error)):
            fail(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_error_of_a_write_names_the_folder_and_others_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(OSError, match="No space") as caught, adding_files(folder) as stage:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(stage / "a"))
    assert caught.value.filename == str(folder)
    with pytest.raises(FileNotFoundError) as missing, adding_files(folder):
        (tmp_path / "source").read_text()
    assert missing.value.filename == str(tmp_path / "source")
    assert list(tmp_path.iterdir()) == []
