"""Records, TensorBoard events, and the lock of a run folder."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatvq.errors import FlatvqError
from flatvq.train import run_trial
from flatvq.train.history import RecordWriter
from flatvq.train.lease import leased
from flatvq.train.tensorboard import TensorBoardEvents

pytestmark = pytest.mark.processes


def test_events_hold_the_numbers_of_the_records(tmp_path: Path, small_recipe) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    run_trial(small_recipe(tensorboard=True, steps=20), run)
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    expected = {record["step"]: record["loss"] for record in records if record["kind"] == "train"}
    assert losses == pytest.approx(expected)
    usage = {event.step: event.value for event in events.Scalars("validation/levels/1/usage")}
    validations = [record for record in records if record["kind"] == "validation"]
    assert usage == pytest.approx({record["step"]: record["levels"][1]["usage"] for record in validations})
    assert events.Scalars("replacement/0/inactive"), "the level is part of the name"


def test_nan_and_infinity_are_written_as_null(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "records.jsonl")
    written = writer.write("train", step=1, loss=float("nan"), levels=[{"x": float("inf")}])
    writer.close()
    line = json.loads((tmp_path / "records.jsonl").read_text())
    assert line == {"kind": "train", "step": 1, "loss": None, "levels": [{"x": None}]}
    assert written["loss"] is None


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow beyond 1,000 bytes while the test runs, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_records_on_a_full_disk_end_with_the_last_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    writer = RecordWriter(path)
    for step in range(15):
        writer.write("train", step=step, loss=0.5)
    with pytest.raises(OSError, match="File too large") as caught:
        writer.write("train", step=15, loss=0.5, words="x" * 1000)
    assert caught.value.filename == str(path)
    writer.write("stop", step=15, reason=None)
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(16))


@pytest.mark.usefixtures("full_disk")
def test_events_on_a_full_disk_raise_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    events = TensorBoardEvents(tmp_path / "tensorboard", 0)
    events.write("train", {"step": 1, "loss": 0.5})
    with pytest.raises(OSError, match="File too large") as caught:
        events.write("train", {"step": 2, **{f"number {number}": 0.5 for number in range(99)}})
    events.close()
    assert "tfevents" in caught.value.filename
    assert capfd.readouterr().err == "", "no background thread prints a traceback"


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    hold = (
        "import sys, fcntl; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(FlatvqError, match="another process is training in"),
            leased(tmp_path, timeout=0.3),
        ):
            pass
        other.kill()
    with leased(tmp_path, timeout=5.0):
        pass


def test_a_level_keeps_its_number_next_to_one_without_a_codebook(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe(steps=8)
    bottom, top = recipe.model.levels
    scalar = type(bottom)(downsample=4, scalar_levels=(5, 5))
    mixed = recipe.model_copy(update={"model": recipe.model.model_copy(update={"levels": (scalar, top)})})
    run = tmp_path / "run"
    run_trial(mixed, run)
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert {record["level"] for record in records if record["kind"] == "init"} == {1}
