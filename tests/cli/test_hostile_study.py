"""A study on a folder of thirty broken, odd and hostile files reports the status of each file."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from flatvq import cli

RNG = np.random.default_rng(0)


def _bytes(kind: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _image(mode: str = "RGB", size: tuple[int, int] = (40, 36)) -> Image.Image:
    colour = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), np.uint8))
    return colour.convert(mode)


def _hostile(folder: Path) -> dict[str, str]:
    """Write thirty files; return the status of each by name, `used` for those that need no conversion."""
    jpeg, png = _bytes("JPEG", _image()), _bytes("PNG", _image())
    bomb = _bytes("PNG", Image.new("1", (40_000, 40_000)))
    exif = Image.Exif()
    exif[0x0112] = 6
    contents: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "unreadable"),
        "text.jpg": (b"not a picture", "unreadable"),
        "page.png": (b"<html><body>404</body></html>", "unreadable"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "unreadable"),
        "cut.png": (png[: len(png) // 2], "unreadable"),
        "head.png": (b"\x89PNG\r\n\x1a\n", "unreadable"),
        "zeros.jpg": (bytes(5000), "unreadable"),
        "noise.jpg": (RNG.bytes(5000), "unreadable"),
        "soi.jpg": (b"\xff\xd8\xff", "unreadable"),
        "bomb.png": (bomb, "skipped"),
        "grey.png": (_bytes("PNG", _image("L")), "converted"),
        "grey-alpha.png": (_bytes("PNG", _image("LA")), "converted"),
        "alpha.png": (_bytes("PNG", _image("RGBA")), "converted"),
        "palette.png": (_bytes("PNG", _image("P")), "converted"),
        "cmyk.jpg": (_bytes("JPEG", _image("CMYK")), "converted"),
        "bilevel.png": (_bytes("PNG", _image("1")), "converted"),
        "deep.png": (
            _bytes("PNG", Image.fromarray(RNG.integers(0, 65536, (36, 40), np.uint16))),
            "converted",
        ),
        "turned.jpg": (_bytes("JPEG", _image(), exif=exif), "converted"),
        "tiny.png": (_bytes("PNG", _image(size=(3, 2))), "converted"),
        "dot.png": (_bytes("PNG", _image(size=(1, 1))), "converted"),
        "moving.gif": (_bytes("GIF", _image("P"), save_all=True, append_images=[_image("P")]), "converted"),
        "wrong-suffix.png": (jpeg, "used"),
        "no-suffix": (png, "used"),
        "line\nbreak.png": (png, "used"),
        "ünïcödé-🐈.jpg": (jpeg, "used"),
        "<script>alert(1)</script>.png".replace("/", "∕"): (png, "used"),
        "long.png": (_bytes("PNG", _image(size=(2000, 34))), "used"),
        "notes.txt": (b"hello", "skipped"),
        "data.json": (b"{}", "skipped"),
        ".hidden.jpg": (jpeg, "skipped"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.jpg").symlink_to(folder / "gone.jpg")
    (folder / "folder.jpg").mkdir()
    return {name: status for name, (_, status) in contents.items()}


def test_a_file_that_fails_to_decode_during_training_is_named(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        _image(size=(48, 40)).save(folder / f"sound-{number}.png")
    # Only the header is intact. Without a cache, the survey does not decode the rest.
    (folder / "cut.png").write_bytes(_bytes("PNG", _image(size=(48, 40)))[:2000])
    recipe = {
        "data": {
            "source": "folder",
            "path": str(folder),
            "crop": 32,
            "cache_mib": 0,
            "validation_share": 0.3,
        },
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
        "train": {"steps": 12, "batch_size": 4},
        "seeds": [0],
    }
    (tmp_path / "late.yaml").write_text(yaml.safe_dump(recipe))
    made = tmp_path / "made"
    monkeypatch.setattr(sys, "argv", ["flatvq", "study", str(tmp_path / "late.yaml"), "--out", str(made)])
    with pytest.raises(SystemExit):
        cli.main()
    files = json.loads((made / "study.json").read_text())["data"]["files"]
    assert [(file["name"], file["status"]) for file in files] == [("cut.png", "unreadable")]


@pytest.mark.slow
def test_a_study_on_broken_files_finishes_and_names_each(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for number in range(12):
        _image(size=(48, 40)).save(folder / f"sound-{number}.png")
    expected = _hostile(folder)
    assert len(expected) >= 30
    recipe = {
        "data": {"source": "folder", "path": str(folder), "crop": 32, "validation_share": 0.3},
        "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
        "codebook": {"init": {"kind": "data", "vectors_per_code": 1}},
        "train": {"steps": 12, "batch_size": 4},
        "seeds": [0],
    }
    (tmp_path / "hostile.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(
        sys, "argv", ["flatvq", "study", str(tmp_path / "hostile.yaml"), "--out", str(tmp_path / "made")]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    study = json.loads((tmp_path / "made" / "study.json").read_text())
    assert study["trials"][0]["status"] == "done"
    statuses = {file["name"]: file["status"] for file in study["data"]["files"]}
    skipped = " ".join(name for name, status in statuses.items() if status == "skipped")
    for name, status in expected.items():
        shown = name.replace("\n", "\\n")
        suffix = Path(name).suffix
        if status == "used":
            assert shown not in statuses, name
        elif status == "skipped" and name != "bomb.png":
            assert shown in skipped or f"*{suffix} (" in skipped or "hidden" in skipped, name
        else:
            assert statuses[shown] == status, name
    for name in ("pipe.jpg", "dangling.jpg"):
        assert name in statuses, name
    page = (tmp_path / "made" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "cut.jpg" in page
