"""A run that is killed after any step and resumed ends with the same bits as an uninterrupted run.

`tests/crash` kills it during its writes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tests.train.conftest import OTHER_LEVELS, VECTOR_LEVELS

from flatvq import processes
from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, load_trial
from flatvq.study import worker
from flatvq.train import run_trial

pytestmark = [pytest.mark.slow, pytest.mark.processes]

RUNS, KILLS_PER_RUN = 2, 10


def _start(run: Path, recipe: TrialRecipe, *, kill_after: int = 0):
    """Train in another process, as a study does; the process is killed after a step, if one is given."""
    run.mkdir(exist_ok=True)
    if not (run / "recipe.json").exists():
        (run / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    target, arguments = (_train_and_die, (run, kill_after)) if kill_after else (worker.train, (run,))
    return processes.start(target, *arguments)


def _train_and_die(run: Path, kill_after: int) -> None:
    def kill(done: int, total: int) -> None:
        if done == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    run_trial(load_trial(run), run, progress=kill)


def _results(run: Path) -> dict[str, bytes]:
    """Weights, codebooks and optimizer state of the last checkpoint, and the final metrics, as bytes."""
    newest = max((run / "checkpoints").glob("step-*"))
    tensors = {**load_file(newest / "model.safetensors"), **load_file(newest / "optimizer.safetensors")}
    arrays = {key: value.tobytes() for key, value in tensors.items()}
    return {
        **arrays,
        "metrics": (run / "metrics.json").read_bytes(),
        "codes": (run / "codes.json").read_bytes(),
    }


def _records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def test_twenty_kills_change_no_bit(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe(steps=150, checkpoint_every=3)
    uninterrupted = tmp_path / "uninterrupted"
    assert _finish(_start(uninterrupted, recipe)) == 0
    expected = _results(uninterrupted)
    chance = random.Random(0)
    for number in range(RUNS):
        run = tmp_path / f"killed-{number}"
        kills = sorted(chance.sample(range(1, recipe.train.steps + 1), KILLS_PER_RUN))
        for step in kills:
            assert _finish(_start(run, recipe, kill_after=step)) == -signal.SIGKILL
        assert _finish(_start(run, recipe)) == 0
        assert _results(run) == expected
        # The codebooks are initialized in step 5, so the first checkpoint is that of step 6.
        checkpoints = [step - step % 3 if step >= 6 else 0 for step in kills]
        assert [r["step"] for r in _records(run) if r["kind"] == "start"] == [0, *checkpoints]
        losses = {(r["step"], r["loss"]) for r in _records(run) if r["kind"] == "train"}
        assert len(losses) == recipe.train.steps, "a step was trained twice, with different losses"


def test_a_kill_changes_no_bit_of_residual_and_lookup_free_quantizers(tmp_path: Path, small_recipe) -> None:
    run = _kill_and_finish(tmp_path, small_recipe(OTHER_LEVELS, checkpoint_every=3))
    # Every stage has its own events.
    inits = [record for record in _records(run) if record["kind"] == "init"]
    assert [record["level"] for record in inits] == [0, 0, 0]


def test_a_kill_changes_no_bit_of_a_residual_hierarchy(tmp_path: Path, small_recipe) -> None:
    _kill_and_finish(tmp_path, small_recipe(hierarchy="residual", checkpoint_every=3))


def test_a_kill_changes_no_bit_of_a_level_that_starts_late(tmp_path: Path, small_recipe) -> None:
    bottom, top = VECTOR_LEVELS
    recipe = small_recipe((bottom, {**top, "start": 21, "warmup_steps": 9}), checkpoint_every=3)
    run = _kill_and_finish(tmp_path, recipe)
    (late,) = (row for row in _records(run) if row["kind"] == "train" and row["step"] == 21)
    inits = {
        record["level"]: number for number, record in enumerate(_records(run)) if record["kind"] == "init"
    }
    assert inits[0] < _records(run).index(late) < inits[1]


def _kill_and_finish(tmp_path: Path, recipe: TrialRecipe) -> Path:
    """Kill a run after a checkpoint, finish it, compare it with an uninterrupted run; return its folder."""
    expected, run = tmp_path / "uninterrupted", tmp_path / "killed"
    assert _finish(_start(expected, recipe)) == 0
    process = _start(run, recipe)
    while not list((run / "checkpoints").glob("step-*")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert _finish(_start(run, recipe)) == 0
    assert _results(run) == _results(expected)
    starts = [record["step"] for record in _records(run) if record["kind"] == "start"]
    assert starts[0] == 0 < starts[1] < recipe.train.steps
    return run


def test_a_run_stopped_by_sigterm_resumes_bit_identically(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe(checkpoint_every=1000)
    expected = tmp_path / "uninterrupted"
    assert _finish(_start(expected, recipe)) == 0
    run = tmp_path / "stopped"
    process = _start(run, recipe)
    while not (run / "records.jsonl").exists() or len(_records_so_far(run)) < 12:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGTERM)
    assert _finish(process) == 0
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "stopped"
    assert 0 < status["step"] < recipe.train.steps
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{status['step']:08d}"]
    assert _records(run)[-1] == {"kind": "stop", "step": status["step"], "reason": "SIGTERM"}
    assert _finish(_start(run, recipe)) == 0
    assert _results(run) == _results(expected)


def _finish(process) -> int:
    process.join()
    return process.exitcode


def _records_so_far(run: Path) -> list[str]:
    return (run / "records.jsonl").read_text().splitlines()


def test_a_damaged_newest_checkpoint_is_skipped(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe()
    run, expected = tmp_path / "run", tmp_path / "uninterrupted"
    assert _finish(_start(expected, recipe)) == 0
    assert _finish(_start(run, recipe)) == 0
    newest = max((run / "checkpoints").glob("step-*"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (run / "metrics.json").unlink()
    assert _finish(_start(run, recipe)) == 0
    assert _results(run) == _results(expected)
    damaged = [record for record in _records(run) if record["kind"] == "damaged"]
    assert [record["checkpoint"] for record in damaged] == [newest.name]


def test_a_partly_damaged_only_checkpoint_is_not_used(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe(steps=20, checkpoint_every=20)
    run, expected = tmp_path / "run", tmp_path / "uninterrupted"
    assert _finish(_start(expected, recipe)) == 0
    assert _finish(_start(run, recipe)) == 0
    # The weights are intact, but must not be used when training starts again.
    (run / "checkpoints" / "step-00000020" / "optimizer.safetensors").write_bytes(b"damaged")
    assert _finish(_start(run, recipe)) == 0
    assert _results(run) == _results(expected)


def test_a_cut_off_last_record_is_dropped_and_recorded(tmp_path: Path, small_recipe) -> None:
    recipe = small_recipe(steps=10)
    run = tmp_path / "run"
    assert _finish(_start(run, recipe)) == 0
    with (run / "records.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert _finish(_start(run, recipe)) == 0
    assert {"kind": "dropped", "step": 0, "bytes": 21} in _records(run)


def test_another_recipe_in_the_folder_is_refused(tmp_path: Path, small_recipe) -> None:
    run = tmp_path / "run"
    assert run_trial(small_recipe(steps=10), run)
    with pytest.raises(FlatvqError, match="holds a run of another recipe"):
        run_trial(small_recipe(steps=11), run)
