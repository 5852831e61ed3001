"""bfloat16 and compiled steps do not change the result of a training; the rule that decides on compiling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.numpy import load_file
from tests.train.conftest import VECTOR_LEVELS

from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, load_recipe
from flatvq.study import planned_trial
from flatvq.train import compiling, run_trial
from flatvq.train.machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.processes]

CPU = Machine(torch.device("cpu"), bfloat16=False, rank=0, world_size=1)


def _psnr(run: Path) -> float:
    return json.loads((run / "metrics.json").read_text())["psnr_db"]


def _trained(recipe: TrialRecipe, run: Path) -> float:
    assert run_trial(recipe, run)
    return _psnr(run)


def _apart(folder: Path, recipe: TrialRecipe) -> None:
    """Train with and without an interruption, without the shape checks, which block the compiler."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    script = Path(__file__).parent / "compiled.py"
    command = [sys.executable, str(script), str(folder / "recipe.json"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bfloat16_and_compiling_stay_within_the_spread_of_seeds(tmp_path: Path, small_recipe) -> None:
    level = VECTOR_LEVELS[:1]
    recipe = small_recipe(level, steps=120, compile="never")
    seeds = [
        _trained(recipe.model_copy(update={"seed": seed}), tmp_path / f"seed-{seed}") for seed in range(3, 7)
    ]
    spread = max(seeds) - min(seeds)
    low = small_recipe(level, steps=120, precision="bfloat16", compile="never")
    rounded = [
        _trained(low.model_copy(update={"seed": seed}), tmp_path / f"low-{seed}") for seed in range(3, 7)
    ]
    assert abs(fmean(rounded) - fmean(seeds)) < spread
    always = small_recipe(level, steps=120, precision="bfloat16", compile="always")
    _apart(tmp_path / "compiled", always)
    runs = [tmp_path / "compiled" / name for name in ("whole", "halved")]
    starts = [
        record
        for run in runs
        for record in map(json.loads, (run / "records.jsonl").read_text().splitlines())
        if record["kind"] == "start"
    ]
    assert [start["compiled"] for start in starts] == [True, True, True]
    assert abs(_psnr(runs[0]) - rounded[0]) < spread, "both trained with seed 3"
    # A compiled training is bit-identical after an interruption, too.
    states = []
    for run in runs:
        newest = max((run / "checkpoints").glob("step-*"))
        tensors = {**load_file(newest / "model.safetensors"), **load_file(newest / "optimizer.safetensors")}
        states.append({key: value.tobytes() for key, value in tensors.items()})
    assert states[0] == states[1]


def test_short_runs_and_several_processes_are_not_compiled(small_recipe) -> None:
    assert not compiling.compiles(small_recipe(), CPU)
    assert not compiling.compiles(planned_trial(load_recipe("photographs"), "", 0), CPU)
    long = planned_trial(load_recipe("imagenet-256"), "", 0)
    assert compiling.repays(long, threads=2, saved=0.03)
    assert not compiling.compiles(long, Machine(torch.device("cpu"), bfloat16=False, rank=0, world_size=2))


def test_the_rule_is_the_saved_share_against_the_cost(small_recipe, monkeypatch) -> None:
    from flatvq.model.capacity import capacity_of

    recipe = small_recipe(steps=1000)
    work = 3 * capacity_of(recipe.model, 32).network_multiply_adds * 1000 * recipe.train.batch_size
    # At this rate the training takes 2,000 s on two threads, of which 2 % are twice 20 s.
    monkeypatch.setattr(compiling, "_MULTIPLY_ADDS_PER_SECOND", work / 4000)
    monkeypatch.setattr(compiling, "_COMPILE_SECONDS", 20.0)
    for saved, expected in ((0.021, True), (0.019, False)):
        assert compiling.repays(recipe, threads=2, saved=saved) is expected


@pytest.mark.parametrize(
    ("bfloat16", "amx", "expected"), [(True, True, 4), (True, False, 1), (False, True, 1)]
)
def test_compiling_saves_a_larger_share_with_amx(
    small_recipe, monkeypatch, bfloat16: bool, amx: bool, expected: int
) -> None:
    seen = []
    monkeypatch.setattr(compiling, "_has_compiler", lambda: True)
    monkeypatch.setattr(compiling, "cpu_has", lambda flag: amx and flag == "amx_bf16")
    monkeypatch.setattr(compiling, "repays", lambda recipe, threads, saved: not seen.append(saved))
    machine = Machine(torch.device("cpu"), bfloat16=bfloat16, rank=0, world_size=1)
    assert compiling.compiles(small_recipe(), machine)
    assert seen == [pytest.approx(0.03 * expected)]


def test_without_a_compiler_it_says_so(small_recipe, monkeypatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not compiling.compiles(planned_trial(load_recipe("imagenet-256"), "", 0), CPU)
    with pytest.raises(FlatvqError, match=r"no C\+\+ compiler"):
        compiling.compiles(small_recipe(compile="always"), CPU)
