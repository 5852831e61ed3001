"""Arrays, tables and checkpoints from an attacker, read by `flatvq doctor`."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tests.cli.hostile import Case, alarm, refused

from flatvq.doctor import read_indices

ARRAY = ("doctor", "x.npy")
ARCHIVE, TABLE, CHECKPOINT = ("doctor", "x.npz"), ("doctor", "x.parquet"), ("doctor", "x.pt")
CODES = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


class Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def array(values: Any, kind: Any = np.int64) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / "x.npy", np.array(values, kind), allow_pickle=kind is object)


def header(text: str) -> Callable[[Path], object]:
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    return lambda folder: (folder / "x.npy").write_bytes(content)


def table(**columns: Any) -> Callable[[Path], object]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "x.parquet")


def checkpoint(tree: Any) -> Callable[[Path], object]:
    return lambda folder: torch.save(tree, folder / "x.pt")


def member(name: str, content: bytes) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        with ZipFile(folder / "x.npz", "w", ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return write


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = str({"descr": "<u2", "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


CASES = {
    "empty file": Case(lambda folder: (folder / "x.npy").touch(), ARRAY, "cannot read 'x.npy'"),
    "empty array": Case(array([]), ARRAY, "is empty"),
    "floats": Case(array([0.5], np.float64), ARRAY, "has the dtype float64"),
    "NaN": Case(array([np.nan], np.float64), ARRAY, "has the dtype float64"),
    "booleans": Case(array([True], bool), ARRAY, "has the dtype bool"),
    "objects": Case(array([Payload()], object), ARRAY, "cannot read 'x.npy'"),
    "negative": Case(array([-1]), ARRAY, "holds the index -1"),
    "large": Case(array([2**64 - 1], np.uint64), ARRAY, f"holds the index {2**64 - 1}"),
    "beyond K": Case(array([7]), (*ARRAY, "--codebook-size", "7"), "give indices from 0 to 6"),
    "shape overflow": Case(
        header("{'descr':'<i8','fortran_order':False,'shape':(2**62,4)}\n"), ARRAY, "cannot"
    ),
    "negative shape": Case(header("{'descr':'<i8','fortran_order':False,'shape':(-4,)}\n"), ARRAY, "cannot"),
    "huge shape": Case(
        header(f"{{'descr':'<i8','fortran_order':False,'shape':({2**62},4)}}\n"), ARRAY, "cannot"
    ),
    "nested header": Case(header("(" * 9000), ARRAY, "cannot read"),
    "FIFO": Case(lambda folder: os.mkfifo(folder / "x.npy"), ARRAY, "'x.npy' is a FIFO"),
    "folder": Case(lambda folder: (folder / "x.npy").mkdir(), ARRAY, "holds no"),
    "loop": Case(lambda folder: (folder / "x.npy").symlink_to("x.npy"), ARRAY, "x.npy"),
    "device": Case(lambda folder: None, ("doctor", "/dev/zero"), "/dev/zero"),
    "control characters": Case(lambda folder: None, ("doctor", "a\nb\x1b"), r"a\nb\x1b"),
    "archive of text": Case(member("a.txt", b"hello"), ARCHIVE, "cannot read 'x.npz'"),
    "cut member": Case(member("a.npy", npy_header((99,)) + b"ab"), ARCHIVE, "cut off"),
    "huge member": Case(member("a.npy", npy_header((2**62,)) + bytes(2**20)), ARCHIVE, "cut off"),
    "pickled member": Case(
        member("a.npy", b"\x93NUMPY\x01\x00" + pickle.dumps(Payload())), ARCHIVE, "cannot"
    ),
    "archive as array": Case(lambda folder: np.savez(folder / "x.npy.npz", a=np.arange(9)), ARRAY, "x.npy"),
    "negative column": Case(table(level_0=[[-1, 2]]), TABLE, "'level_0' of 'x.parquet' holds the index -1"),
    "null": Case(table(level_0=pa.array([[1, None]], pa.list_(pa.int64()))), TABLE, "1 missing values"),
    "null row": Case(table(level_0=pa.array([None], pa.list_(pa.int64()))), TABLE, "1 missing values"),
    "float column": Case(table(level_0=[1.5]), TABLE, "holds no array of integers"),
    "no rows": Case(table(level_0=pa.array([], pa.int64())), TABLE, "x.parquet"),
    "table as FIFO": Case(lambda folder: os.mkfifo(folder / "x.parquet"), TABLE, "is a FIFO"),
    "table as folder": Case(
        lambda folder: (folder / "d/x.parquet").mkdir(parents=True), ("doctor", "d"), "read 'd'"
    ),
    "pickle": Case(
        lambda folder: (folder / "x.pt").write_bytes(pickle.dumps(Payload())),
        CHECKPOINT,
        "'x.pt' is not a file that torch.save of PyTorch 1.6 or later wrote",
    ),
    "payload": Case(checkpoint({"codebook": Payload()}), CHECKPOINT, "cannot read"),
    "list": Case(checkpoint([1, 2]), CHECKPOINT, "no tensor of 'x.pt' is a codebook"),
    "view of a terabyte": Case(
        checkpoint({"quantize.codebook": torch.zeros(1).expand(2**20, 2**18)}), CHECKPOINT, "is a codebook"
    ),
    "no dimension": Case(checkpoint({"quantize.codebook": torch.zeros(8, 0)}), CHECKPOINT, "is a codebook"),
    "sparse": Case(checkpoint({"quantize.codebook": CODES.to_sparse()}), CHECKPOINT, "is a codebook"),
    "meta": Case(checkpoint({"quantize.codebook": CODES.to("meta")}), CHECKPOINT, "is a codebook"),
    "checkpoint as FIFO": Case(lambda folder: os.mkfifo(folder / "x.pt"), CHECKPOINT, "x.pt"),
    "safetensors as FIFO": Case(
        lambda folder: os.mkfifo(folder / "x.safetensors"), ("doctor", "x.safetensors"), "x.safetensors"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Any) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    refused(run_flatvq, case, tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_may_contain_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    tree: dict[str, Any] = {"quantize.codebook": CODES}
    tree["again"] = tree
    for _ in range(50):
        tree = {"first": tree, "second": tree}
    torch.save({**tree, "quantize.codebook": CODES}, "x.pt")
    with alarm():
        code, out, err = run_flatvq(*CHECKPOINT)
    assert (code, err) == (0, "")
    assert "quantize.codebook" in out


def test_names_in_files_are_printed_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"quantize\x1b[31m.codebook": CODES}, "x.safetensors")
    table(**{"a\x1b[31m": [1, 2, 3, 4]})(tmp_path)
    for name in ("x.safetensors", "x.parquet"):
        _, out, _ = run_flatvq("doctor", name)
        assert r"\x1b" in out
        assert "\x1b" not in out


def test_indices_are_counted_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatvq.doctor.indices._CHUNK", 10)
    values = np.random.default_rng(0).integers(0, 7, (6, 9), np.uint16)
    np.save(tmp_path / "x.npy", values)
    np.savez_compressed(tmp_path / "x.npz", a=values.T)
    rows = pa.table({"a": values.tolist(), "width": [9] * 6})
    pq.write_table(rows, tmp_path / "x.parquet", row_group_size=4)
    for suffix in ("npy", "npz", "parquet"):
        (histogram,) = read_indices(tmp_path / f"x.{suffix}")
        assert histogram.counts.tolist() == np.bincount(values.ravel()).tolist()


def test_zeros_that_are_compressed_take_little_memory(tmp_path: Path) -> None:
    """64 MiB of zeros in 64 KiB; as int64 they would take 256 MiB."""
    member("a.npy", npy_header((2**25,)) + bytes(2**26))(tmp_path)
    assert (tmp_path / "x.npz").stat().st_size < 2**17
    tracemalloc.start()
    try:
        (histogram,) = read_indices(tmp_path / "x.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert histogram.counts.tolist() == [2**25]
    assert peak < 2**26
