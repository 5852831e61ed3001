"""Commands that are killed during a write and run again: nothing is lost, and no partial file is used.

`python -m benchmarks.crashes` does the same at hundreds of instants; its record is results/crashes.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from benchmarks.crashes.folders import damaged_files
from benchmarks.crashes.killer import Killer, missing
from benchmarks.crashes.matrix import Matrix, Undisturbed
from benchmarks.crashes.programs import Forked
from benchmarks.crashes.scenarios import SCENARIOS
from PIL import Image
from safetensors.torch import save_file

RECORD = Path(__file__).parents[2] / "results" / "crashes.json"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}"),
]

# For each command: the accident, the system call at which it happens, the path, and the index of the call.
INSTANTS = {
    "train": [
        ("disk full", "write", "records.jsonl", 4),
        ("all killed", "write", ".lease/*/*/.step-00000004.*/model.safetensors", 0),
        ("all killed", "rename", "checkpoints/step-00000004", 0),
        ("all killed", "unlink", ".lease/*/*/.step-00000002.removed.*", 1),
        ("all killed", "write", ".lease/*/*/.config.json.*", 0),
        ("all killed", "rename", "status.json", -1),
        # The run is complete: its lease is written last.
        ("disk full", "write", ".lease/*/*/.owner.json.*", -1),
    ],
    "study": [
        ("writer killed", "write", "runs/*/.lease/*/*/.step-00000004.*/optimizer.safetensors", 0),
        ("main killed", "rename", "study.json", 0),
    ],
    "tune": [("all killed", "write", "journal.log", 8)],
    "report": [("all killed", "write", ".report.html.*", 0)],
}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    place = tmp_path_factory.mktemp("crashes")
    killer = Killer(place)
    with Forked(killer) as program:
        yield Matrix(place / "matrix", killer, program)


def _number(run: Undisturbed, call: str, pattern: str, which: int) -> int:
    numbers = [write.number for write in run.writes if write.call == call and fnmatch(write.path, pattern)]
    return numbers[which]


@pytest.mark.parametrize("name", INSTANTS)
def test_a_disturbed_command_that_is_run_again_ends_like_an_undisturbed_one(
    matrix: Matrix, name: str
) -> None:
    run = matrix.undisturbed(SCENARIOS[name])
    for turn, (accident, *where) in enumerate(INSTANTS[name]):
        instant = matrix.disturb(run, accident, _number(run, *where), again=20 if turn == 1 else 0)
        assert instant.faults == ()
        if name in ("train", "report"):  # the others have workers, whose writes have no fixed order
            assert instant.write is not None
            assert instant.write.call == where[0]


def test_a_program_is_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    killer, out = Killer(tmp_path), tmp_path / "out"
    program = (
        "import os, pathlib; out = pathlib.Path('out'); out.mkdir(); (out / 'a').write_bytes(b'1234');"
        "(out / 'a').rename(out / 'b'); pathlib.Path('elsewhere').touch(); os.truncate(out / 'b', 0)"
    )
    for at, remaining in [
        (0, {"b": b""}),
        (1, None),
        (3, {"a": b"12"}),
        (4, {"a": b"1234"}),
        (5, {"b": b"1234"}),
    ]:
        killer.arm(out, at)
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=killer.environment)
        assert done.returncode == (-9 if at else 0)
        calls = ["mkdir", "open", "write", "rename", "truncate"]
        assert [write.call for write in killer.writes()] == calls[: at or None]
        contents = {path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else None
        assert contents == remaining
        for path in out.glob("*"):
            path.unlink()
        if out.exists():
            out.rmdir()


def test_a_partial_file_is_detected(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "a.png")
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    save_file({"a": torch.ones(9)}, tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "a.yaml").write_text("a: {b: 1}")
    (tmp_path / "a.html").write_text("<html></html>")
    assert damaged_files(tmp_path) == {}
    # A kill may cut off the last record of a file, and temporary files at any place.
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"')
    (tmp_path / ".a.json.1-1.partial").write_text("{")
    assert damaged_files(tmp_path) == {}
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"{"a": 2}\n')
    for path in tmp_path.glob("a.*"):
        if path.suffix != ".jsonl":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 2])
    assert damaged_files(tmp_path).keys() == {path.name for path in tmp_path.glob("a.*")}


def test_the_record_has_two_hundred_instants_without_a_fault() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    parts = [*record["forked"], *record["as_a_user"]]
    full = sum(part["accidents"].get("disk full", 0) for part in parts)
    assert sum(part["instants"] for part in parts) - full >= 200
    assert {part["command"].split()[1] for part in parts} >= {"train", "study", "tune", "report"}
    for part in parts:
        assert part["faults"] == []
        assert part["as_undisturbed"] == part["instants"] == sum(part["accidents"].values())
        assert sum(part["calls"].values()) + part["ended_before"] == part["instants"]
