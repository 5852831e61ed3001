"""Trials on shards: stopped and resumed, and in two processes, they train what an undisturbed one trains."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tests.data.shard_files import write_parquets, write_tars
from tests.train.test_distributed import _train

from flatvq.recipe import TrialRecipe
from flatvq.train import run_trial

pytestmark = [pytest.mark.slow]


@pytest.fixture
def recipe(photographs: Path, tmp_path: Path, small_recipe, monkeypatch: pytest.MonkeyPatch) -> TrialRecipe:
    """A trial on shards whose images are decoded each time."""
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    files = [path.read_bytes() for path in sorted(photographs.iterdir())]
    write_tars(tmp_path / "shards", files[::2], 4)
    write_parquets(tmp_path / "shards", files[1::2], 4)
    own = small_recipe(steps=12, validate_every=6)
    data = {"source": "shards", "path": str(tmp_path / "shards"), "cache_mib": 0, "shuffle_mib": 64}
    return own.model_copy(update={"data": own.data.model_copy(update=data)})


def test_a_stopped_run_resumes_to_the_same_weights(recipe: TrialRecipe, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_trial(recipe, tmp_path / "whole")
    assert not run_trial(recipe, tmp_path / "stopped", progress=stop)
    assert run_trial(recipe, tmp_path / "stopped")
    for name in ("model/model.safetensors", "metrics.json", "images.parquet"):
        contents = [(tmp_path / run / name).read_bytes() for run in ("whole", "stopped")]
        if name == "metrics.json":
            contents = [{**json.loads(content), "measured_on": None} for content in contents]
        assert contents[0] == contents[1], name


@pytest.mark.processes
def test_two_processes_train_as_one(recipe: TrialRecipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    (alone,) = _train(tmp_path, 1)
    first, second = _train(tmp_path, 2)
    for key, value in first.items():
        assert torch.equal(value, second[key]), f"ranks differ in {key}"
        torch.testing.assert_close(value, alone[key], rtol=1e-3, atol=1e-3)
