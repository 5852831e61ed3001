"""A command that fails leaves the working folder as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from tests.codec.tokenizers import image, tokenizer

from flatvq import export as exports
from flatvq.cli import compression
from flatvq.errors import FlatvqError
from flatvq.export import Program, parity
from flatvq.model import save_tokenizer


@pytest.fixture
def work(monkeypatch, tmp_path: Path) -> Path:
    """Make the working folder one with a tokenizer, images and files that are not images."""
    monkeypatch.chdir(tmp_path)
    model = tokenizer()
    save_tokenizer("tok", model, {"model": model.recipe.model_dump(mode="json"), "codebook": {}})
    for folder in ("pictures", "texts"):
        Path(folder).mkdir()
    for number in range(3):
        Image.fromarray(image(30, 40, number)).save(f"pictures/{number}.png")
    Path("texts/a.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def flatvq(run_flatvq, work: Path):
    """Run a command in the working folder."""
    return run_flatvq


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return the content of all files, and None for folders."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["encode", "tok", "nothing", "out"], "no folder at 'nothing'"),
        (["encode", "tok", "texts", "out/deep"], "*.txt (1 file)): check the path"),
        (["encode", "tok", "pictures", "pictures"], "'pictures' is the folder of the images: choose another"),
        (["decode", "tok", "pictures", "out"], "no manifest.json in 'pictures'"),
        (["evaluate", "tok", "--data", "texts", "--against", "jpeg", "--out", "out"], "no usable image"),
        (["export", "tok", "out", "--to", "pt2", "--check", "texts"], "no usable image"),
        (["doctor", "tok", "--page", "pictures"], "'pictures' is a folder: give a file, such as"),
        (["doctor", "tok", "--page", "texts/a.txt/x.html"], "'texts/a.txt' is a file: choose another"),
        (["compress", "tok", "pictures", "--out", "texts/a.txt/b/x.fvqs"], "(not a directory)"),
        (["study", "photographs", "--set", "data.source=folder", "--set", "data.path=texts"], "no usable"),
        (["levels", "pictures"], "no recipe.json in 'pictures': give the folder of a run"),
    ],
)
def test_wrong_input_leaves_nothing(words: list[str], error: str, flatvq, work: Path) -> None:
    before = tree(work)
    code, out, err = flatvq(*words)
    assert (code, err.count("\n")) == (2, 1), out + err
    assert error in err
    assert tree(work) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_cannot_be_written_is_found_before_the_work(flatvq, work: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    code, _, err = flatvq("compress", "tok", "pictures", "--out", "locked/new/x.fvqs")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot create the folder 'locked/new' (permission denied): choose another folder" in err


def test_folders_of_written_files_are_made(flatvq) -> None:
    assert flatvq("compress", "tok", "pictures/0.png", "--out", "a/b/0.fvq")[0] == 0
    assert flatvq("decompress", "tok", "a/b/0.fvq", "--out", "c/d/0.png")[0] == 0
    assert flatvq("doctor", "tok", "--page", "e/f/page.html")[0] in (0, 1)
    assert all(Path(name).is_file() for name in ("a/b/0.fvq", "c/d/0.png", "e/f/page.html"))


@pytest.mark.parametrize("error", [FlatvqError("the third image is damaged", "stop"), KeyboardInterrupt()])
def test_a_decompression_that_fails_leaves_no_image(error, flatvq, work: Path, monkeypatch) -> None:
    assert flatvq("compress", "tok", "pictures", "--out", "all.fvqs")[0] == 0
    before, decoded, done = tree(work), compression._decoded, []

    def third_fails(*arguments):
        if len(done) == 2:
            raise error
        done.append(arguments)
        return decoded(*arguments)

    monkeypatch.setattr(compression, "_decoded", third_fails)
    code, _, err = flatvq("decompress", "tok", "all.fvqs", "--out", "new/images")
    assert len(done) == 2
    assert code == (2 if isinstance(error, FlatvqError) else 130), err
    assert tree(work) == before
    monkeypatch.setattr(compression, "_decoded", decoded)
    assert flatvq("decompress", "tok", "all.fvqs", "--out", "new/images")[0] == 0
    assert sorted(path.name for path in Path("new/images").iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_collection_is_not_decompressed_among_the_originals(flatvq, work: Path) -> None:
    assert flatvq("compress", "tok", "pictures", "--out", "pictures.fvqs")[0] == 0
    for number in range(3):
        Path(f"pictures/{number}.png").rename(f"pictures/{number}.original.png")
    before = tree(work)
    code, _, err = flatvq("decompress", "tok", "pictures.fvqs")
    assert (code, err) == (
        2,
        "flatvq: 'pictures' exists: give --out FOLDER, or add --force to write into it\n",
    )
    assert tree(work) == before
    assert flatvq("decompress", "tok", "pictures.fvqs", "--force")[0] == 0
    assert Path("pictures/0.png").is_file()


@pytest.mark.parametrize("when", ["first export", "another export is there"])
def test_programs_that_fail_their_check_are_not_written(when: str, flatvq, work: Path, monkeypatch) -> None:
    if when != "first export":
        Path("out").mkdir()
        Path("out/encoder.pt2").write_bytes(b"an earlier export")

    def written(model, folder: Path, kind: str) -> list[Path]:
        folder.mkdir(exist_ok=True)
        files = [folder / f"{half}.{kind}" for half in ("encoder", "decoder")]
        for file in files:
            file.write_bytes(b"wrong")
        return files

    model = tokenizer()
    wrong = Program(model.encode, lambda indices: model.decode(indices).clamp(0, 1) * 0.9)
    monkeypatch.setattr(parity, "export", written)
    monkeypatch.setattr(parity, "load_program", lambda folder, kind: wrong)
    before = tree(work)
    code, _, err = flatvq("export", "tok", "out", "--to", "pt2")
    assert (code, err.count("\n")) == (2, 1)
    assert "the pt2 programs differ from the tokenizer: 0 of " in err
    assert tree(work) == before
    # The same programs with a good check appear.
    right = Program(model.encode, lambda indices: model.decode(indices).clamp(0, 1))
    monkeypatch.setattr(parity, "load_program", lambda folder, kind: right)
    code, out, err = flatvq("export", "tok", "out", "--to", "pt2")
    assert (code, err) == (0, ""), err
    assert Path("out/encoder.pt2").read_bytes() == Path("out/decoder.pt2").read_bytes() == b"wrong"
    assert "out/encoder.pt2  5 bytes" in out


def test_half_an_export_is_not_written(flatvq, work: Path, monkeypatch) -> None:
    written = []

    def second_fails(module, inputs, shapes, file: Path) -> None:
        if written:
            raise OSError(28, "No space left on device")
        file.write_bytes(b"encoder")
        written.append(file)

    monkeypatch.setitem(exports.FORMATS, "pt2", exports.programs._Format(second_fails, None))
    before = tree(work)
    code, _, err = flatvq("export", "tok", "out", "--to", "pt2")
    assert (code, len(written)) == (74, 1)
    assert err.startswith("flatvq: cannot write 'out' (no space left on device): make space")
    assert tree(work) == before


def test_a_decoded_image_that_cannot_be_written_leaves_no_part(flatvq, work: Path, monkeypatch) -> None:
    assert flatvq("encode", "tok", "pictures", "codes")[0] == 0

    def full(self, file, format_name) -> None:
        Path(file).write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, _, err = flatvq("decode", "tok", "codes", "images")
    assert (code, err.count("\n")) == (74, 1)
    assert "cannot write 'images/" in err
    assert list(Path("images").iterdir()) == []
    assert flatvq("decode", "tok", "codes", "codes")[0] == 2
