"""Exported programs from an attacker, and programs of another model."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from tests.codec.tokenizers import tokenizer
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.export import Program, check_programs, compare_programs, load_program, noise_batches
from flatvq.export.archives import load_archive


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


class Half(nn.Module):
    """A program."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("archive") / "half.pt2"
    torch.export.save(torch.export.export(Half(), (torch.ones(2),)), file)
    return file


def changed(archive: Path, target: Path, members: dict[str, bytes]) -> Path:
    """Copy an archive, with other members."""
    with ZipFile(archive) as source, ZipFile(target, "w") as copy:
        root = source.namelist()[0].split("/")[0]
        contents = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        for name, content in {**contents, **members}.items():
            copy.writestr(f"{root}/{name}", content)
    return target


def pickled(value: object) -> bytes:
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_an_archive_of_tensors_is_loaded(archive: Path) -> None:
    before = dict(os.environ)
    assert load_archive(archive)(torch.tensor([3.0, 4.0])).tolist() == [1.5, 2.0]
    assert dict(os.environ) == before


def test_no_object_is_unpickled(archive: Path, tmp_path: Path) -> None:
    for number, member in enumerate(("data/sample_inputs/model.pt", "data/constants/opaque_obj_0")):
        folder = tmp_path / f"pwned-{number}"
        content = pickled(((Payload(folder),), {}))
        file = changed(archive, tmp_path / f"{number}.pt2", {member: content})
        with pytest.raises((FlatvqError, pickle.UnpicklingError)):
            load_archive(file)
        assert not folder.exists()
    # torch itself unpickles the first one.
    with suppress(TypeError):  # its warning is no valid log message, which pytest reports
        torch.export.load(tmp_path / "0.pt2")
    assert (tmp_path / "pwned-0").is_dir()


def test_an_unknown_member_is_named(archive: Path, tmp_path: Path) -> None:
    file = changed(archive, tmp_path / "x.pt2", {"data/constants/custom_obj_0": b"x"})
    with pytest.raises(FlatvqError, match=r"contains 'data/constants/custom_obj_0', which is not a tensor"):
        load_archive(file)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "text": lambda path: path.write_text("a\nb\x1b"),
    "zip": lambda path: ZipFile(path, "w").close(),
    "zeros": lambda path: path.write_bytes(bytes(10_000)),
    "array": lambda path: np.save(path.with_suffix(".npy"), np.zeros(3)) or path.touch(),
    "module": lambda path: torch.save({"a": torch.zeros(3)}, path),
    "payload": lambda path: torch.save(Payload(path.parent / "pwned"), path),
}


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_programs_are_refused_in_one_line(kind: str, damage: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    for half in ("encoder", "decoder"):
        DAMAGES[damage](tmp_path / f"{half}.{kind}")
    with pytest.raises(FlatvqError) as error:
        load_program(tmp_path)
    assert str(error.value).isprintable()
    assert "cannot read the" in str(error.value) or "which is not a tensor" in str(error.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("write", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name)])
def test_what_is_no_file_is_no_program(write: Callable[[Path], object], tmp_path: Path) -> None:
    for half in ("encoder", "decoder"):
        write(tmp_path / f"{half}.pt2")
    with pytest.raises(FlatvqError, match="holds no exported programs"):
        load_program(tmp_path)


def test_programs_of_another_model_are_refused_in_one_line(archive: Path, tmp_path: Path) -> None:
    model = tokenizer()
    for half in ("encoder", "decoder"):
        shutil.copy(archive, tmp_path / f"{half}.pt2")
        (tmp_path / f"{half}.onnx").write_bytes(b"x")
    # The format that was exported is checked, not the first one of the folder.
    with pytest.raises(FlatvqError, match=r"the encoder in '.*' does not accept images \[1, 3, 32, 32\]"):
        check_programs(model, tmp_path, noise_batches(model), "pt2")
    with pytest.raises(FlatvqError, match="holds no exported programs"):
        load_program(tmp_path / "nowhere", "pt2")


def test_other_outputs_are_refused(tmp_path: Path) -> None:
    model = tokenizer()
    images = [torch.rand(1, 3, 16, 16)]

    def decode(indices: Sequence[Tensor]) -> Tensor:
        return model.decode(list(indices)).clamp(0, 1)

    def encode(images: Tensor) -> list[Tensor]:
        return list(model.encode(images))

    with torch.no_grad():
        assert compare_programs(model, Program(encode, decode), images).required("they").differing == 0
        for wrong in (lambda images: [], lambda images: [encode(images)[0][:, :1]]):
            with pytest.raises(FlatvqError, match="a program returns indices"):
                compare_programs(model, Program(wrong, decode), images)
        with pytest.raises(FlatvqError, match="a program returns images"):
            compare_programs(model, Program(encode, lambda indices: decode(indices)[..., :8]), images)
        undefined = Program(encode, lambda indices: decode(indices) * torch.nan)
        with pytest.raises(FlatvqError, match="decoded pixels by up to inf"):
            compare_programs(model, undefined, images).required("they")
