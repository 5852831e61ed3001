"""Atomic writes: files and leftovers after errors, kills and writes of other processes."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatvq import files
from flatvq.files import remove_folder, replacing_folder, staged, write_bytes, write_json, write_text


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow beyond 4 KiB while the test runs, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert _names(tmp_path) == {"a.txt"}
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask(), "readable as any other file"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_numbers_that_json_cannot_represent_are_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": (float("-inf"),)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "b": [None]}


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="File too large") as caught:
        write_bytes(path, bytes(10_000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == {"a.bin"}


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_folder_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step-1"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match="File too large") as caught, replacing_folder(path) as place:
        (place / "new").write_bytes(bytes(10_000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert _names(tmp_path) == {"step-1"}
    assert _names(path) == {"old"}


def test_a_missing_folder_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "nowhere" / "a.bin", b"")


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "made" / "step-1"
    for content in ("one", "two"):
        with replacing_folder(path) as place:
            (place / content).touch()
            assert not (path / content).exists()
    assert _names(path) == {"two"}
    assert _names(tmp_path / "made") == {"step-1"}
    remove_folder(path)
    assert _names(tmp_path / "made") == set()


KILLED_IN_A_FOLDER = """
import os, signal, sys, pathlib
from flatvq.files import replacing_folder
with replacing_folder(pathlib.Path(sys.argv[1])) as place:
    (place / "half").write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("zombie", [False, True])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, zombie: bool) -> None:
    killed = subprocess.Popen([sys.executable, "-c", KILLED_IN_A_FOLDER, str(tmp_path / "step-1")])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    if not zombie:
        assert killed.wait() == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".step-1.")
    process = left.name.split(".")[2]
    (tmp_path / f".a.json.{process}.partial").write_text("{")
    write_text(tmp_path / "other.txt", "")
    assert _names(tmp_path) == {"other.txt"}
    assert killed.wait() == -signal.SIGKILL


def test_the_next_writer_leaves_what_a_living_one_writes(tmp_path: Path) -> None:
    parent = tmp_path / f".a.json.{os.getppid()}-{os.getppid()}.partial"
    parent.touch()
    users = tmp_path / ".a.json.partial"
    users.touch()
    write_json(tmp_path / "a.json", {})
    assert _names(tmp_path) == {"a.json", parent.name, users.name}


def test_what_another_host_writes_into_a_shared_folder_stays_for_a_day(tmp_path: Path, monkeypatch) -> None:
    """Here, no process may have the number of its writer."""
    with subprocess.Popen(["true"]) as ended:
        pass
    with monkeypatch.context() as there:
        there.setattr(files, "_host", lambda: "00c0ffee")
        there.setattr(os, "getpid", lambda: ended.pid)
        left = files.temporary_name(tmp_path / "a.json")
    left.touch()
    write_json(tmp_path / "b.json", {})
    assert _names(tmp_path) == {"b.json", left.name}
    os.utime(left, (time.time() - 90_000,) * 2)
    write_json(tmp_path / "b.json", {})
    assert _names(tmp_path) == {"b.json"}


def test_a_leftover_of_this_process_number_is_removed(tmp_path: Path) -> None:
    # In a container every run may have process number 1.
    mine = tmp_path / f".b.json.{os.getpid()}-{os.getpid()}.partial"
    mine.touch()
    write_json(tmp_path / "a.json", {})
    assert _names(tmp_path) == {"a.json"}


@pytest.mark.parametrize("relative", ["folder", "file"])
def test_a_staged_write_fails_without_its_stage_however_the_path_is_given(
    relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "stage").mkdir(parents=True)
    folder = Path("run") if relative == "folder" else tmp_path / "run"
    path = tmp_path / "run" / "a.json" if relative == "folder" else Path("run", "a.json")
    with staged(folder, folder / "stage"):
        write_text(path, "1")
        (tmp_path / "run" / "stage").rmdir()
        with pytest.raises(FileNotFoundError):
            write_text(path, "2")
    assert path.read_text() == "1"
