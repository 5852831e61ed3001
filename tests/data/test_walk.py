"""What lies in folders besides plain files: links, pipes, odd names, and paths that are wrong."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flatvq.data import FileStatus, OpenedFolder, open_folder
from flatvq.errors import FlatvqError


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(path, "PNG")


def opened(folder: Path) -> OpenedFolder:
    return open_folder(folder, crop=16)


def file_statuses(folder: Path) -> dict[str, FileStatus]:
    return {file.name: file for file in opened(folder).file_statuses}


def test_order_is_that_of_paths_whatever_the_nesting(tmp_path: Path) -> None:
    for name in ("b.png", "a/z/y/x.png", "c/1.png", "a.png", "A.png", "a/b.png"):
        save(tmp_path / name)
    assert opened(tmp_path).images.names == tuple(
        sorted(["b.png", "a/z/y/x.png", "c/1.png", "a.png", "A.png", "a/b.png"])
    )


def test_very_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["deep"] * 200)
    deep.mkdir(parents=True)
    save(deep / "x.png")
    assert len(opened(tmp_path).images) == 1


def test_folders_named_like_images_are_folders(tmp_path: Path) -> None:
    save(tmp_path / "album.jpg" / "x.png")
    assert opened(tmp_path).images.names == ("album.jpg/x.png",)
    assert not file_statuses(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs on Windows")
def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        statuses = file_statuses(tmp_path)
    assert {name: (file.status, file.reason) for name, file in statuses.items()} == {
        "pipe.jpg": ("skipped", "a FIFO"),
        "device.png": ("skipped", "a device"),
        "socket.png": ("skipped", "a socket"),
    }


def test_links_are_followed_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    save(tmp_path / "elsewhere" / "x.png")
    save(images / "own.png")
    (images / "linked.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    (images / "again").symlink_to(tmp_path / "elsewhere")
    (images / "self").symlink_to(images)
    (images / "above").symlink_to(tmp_path)
    (images / "everything").symlink_to("/")
    assert opened(images).images.names == ("again/x.png", "linked.png", "own.png")
    assert {name for name, file in file_statuses(images).items() if file.status == "skipped"} == {
        "folder/",
        "self/",
        "above/",
        "everything/",
    }


def test_broken_and_circular_links_are_unreadable(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    save(tmp_path / "y.png")
    (tmp_path / "nowhere.jpg").symlink_to("absent")
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    with pytest.raises(
        FlatvqError, match=r"3 of 5 images in folder .* cannot be read, such as 'a.jpg': broken"
    ):
        opened(tmp_path)
    (tmp_path / "a.jpg").unlink()
    statuses = file_statuses(tmp_path)
    assert set(statuses) == {"nowhere.jpg", "b.jpg"}
    assert all(file.status == "unreadable" and "broken link" in file.reason for file in statuses.values())


def test_hidden_files_are_counted(tmp_path: Path) -> None:
    for name in ("x.png", ".hidden.png", ".cache/y.png", "__MACOSX/._x.png", "sub/.z.png"):
        save(tmp_path / name)
    assert opened(tmp_path).images.names == ("x.png",)
    assert set(file_statuses(tmp_path)) == {"hidden (4 entries)"}


def test_other_files_are_counted_by_suffix(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text("label")
    (tmp_path / "README").write_text("text")
    assert set(file_statuses(tmp_path)) == {"*.txt (12 files)", "no suffix (1 file)"}


@pytest.mark.skipif(sys.platform != "linux", reason="only there is any byte a name")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    save(tmp_path / "plain.png")
    raw = os.fsencode(tmp_path) + b"/caf\xe9\n\x1b[31m.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / "plain.png").read_bytes())
    name, _ = opened(tmp_path).images.names
    assert name == "caf\\udce9\\n\\x1b[31m.png"


def test_names_stay_different(tmp_path: Path) -> None:
    save(tmp_path / "a\nb.png")
    save(tmp_path / "a\\nb.png")
    assert len(set(opened(tmp_path).images.names)) == 2


def test_files_and_folders_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x.png")
    save(tmp_path / "y.png")
    save(tmp_path / "z.png")
    save(tmp_path / "locked.png")
    (tmp_path / "closed").mkdir()
    # The superuser may read everything, so permission is withdrawn in Python.
    path_open, scandir = Path.open, os.scandir

    def refuse_file(path: Path, *args: str) -> object:
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied")
        return path_open(path, *args)

    def refuse_folder(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(Path, "open", refuse_file)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    assert {name: (file.status, file.reason) for name, file in file_statuses(tmp_path).items()} == {
        "locked.png": ("unreadable", "cannot be opened (permission denied)"),
        "closed/": ("unreadable", "folder cannot be listed (permission denied)"),
    }


def test_wrong_paths_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    save(tmp_path / "file.png")
    (tmp_path / "loop").symlink_to("loop")
    wrong = {
        tmp_path / "absent": "no folder at '.*absent': check the path",
        tmp_path / "loop": r"no folder at '.*loop' \(too many levels of symbolic links\): check the path",
        tmp_path / "file.png" / "x": r"no folder at '.*x' \(not a directory\): check the path",
        tmp_path / "file.png": "'.*file.png' is a file, not a folder: ",
        tmp_path / "empty": "folder '.*empty' holds no usable image .it is empty.: ",
        tmp_path / "texts": r"folder '.*texts' holds no usable image .\*.txt .1 file..: ",
        tmp_path / "nul\0byte": r"no folder at '.*nul\\x00byte' \(ValueError: embedded null byte\)",
        Path("x" * 5000): r"no folder at '.*' \(file name too long\): check the path",
        Path("~nobody-here/pictures"): "no home folder for '~nobody-here/pictures': ",
    }
    for path, message in wrong.items():
        with pytest.raises(FlatvqError, match=message) as caught:
            opened(path)
        assert "\n" not in str(caught.value)


def test_a_folder_that_vanishes_while_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "images" / "x.png")
    save(tmp_path / "images" / "below" / "y.png")
    scandir = os.scandir

    def vanish(name: str) -> Callable[[Path], object]:
        def scan(path: Path) -> object:
            if Path(path).name == name:
                Path(path).rename(tmp_path / f"away-{name}")
            return scandir(path)

        return scan

    monkeypatch.setattr(os, "scandir", vanish("below"))
    assert file_statuses(tmp_path / "images") == {
        "below/": FileStatus(
            "below/", "evaluation", "unreadable", "folder cannot be listed (no such file or directory)"
        )
    }
    monkeypatch.setattr(os, "scandir", vanish("images"))
    with pytest.raises(
        FlatvqError, match=r"folder '.*images' cannot be listed \(no such file or directory\)"
    ):
        opened(tmp_path / "images")


def test_files_that_vanish_after_they_were_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.png", "y.png", "z.png"):
        save(tmp_path / "images" / name)

    def vanish(path: Path, *args: str) -> object:
        path.unlink(missing_ok=True)
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "open", vanish)
    with pytest.raises(
        FlatvqError,
        match=r"3 of 3 images .* such as 'x.png': cannot be opened \(no such file or directory\);",
    ):
        opened(tmp_path / "images")
