"""Trainings on each device of this machine: bit-identical after an interruption, and saved tokenizers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from flatvq.model import load_tokenizer
from flatvq.train import run_trial

pytestmark = pytest.mark.slow


def _results(run: Path) -> dict[str, bytes]:
    newest = max((run / "checkpoints").glob("step-*"))
    tensors = {**load_file(newest / "model.safetensors"), **load_file(newest / "optimizer.safetensors")}
    arrays = {key: value.tobytes() for key, value in tensors.items()}
    return {**arrays, "metrics": (run / "metrics.json").read_bytes()}


def _stop_at(step: int):
    def progress(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_training_is_bit_identical(
    device, precision: str, tmp_path: Path, small_recipe
) -> None:
    recipe = small_recipe(device=device.type, precision=precision)
    assert run_trial(recipe, tmp_path / "whole")
    assert not run_trial(recipe, tmp_path / "stopped", progress=_stop_at(17))
    assert run_trial(recipe, tmp_path / "stopped")
    assert _results(tmp_path / "stopped") == _results(tmp_path / "whole")
    start = json.loads((tmp_path / "whole" / "records.jsonl").read_text().splitlines()[0])
    assert torch.device(start["device"]).type == device.type
    assert start["precision"] == precision


def test_the_settings_for_determinism_are_restored(device, tmp_path: Path, small_recipe) -> None:
    run_trial(small_recipe(device=device.type, steps=5), tmp_path / "run")
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_it_trains_and_saves_a_tokenizer(device, tmp_path: Path, small_recipe) -> None:
    figures = []
    for kind in (device.type, "cpu"):
        assert run_trial(small_recipe(device=kind, steps=120), tmp_path / kind)
        figures.append(json.loads((tmp_path / kind / "metrics.json").read_text())["psnr_db"])
    # Other rounding acts like another seed; three seeds differ by more.
    assert figures[0] == pytest.approx(figures[1], abs=1)
    tokenizer = load_tokenizer(tmp_path / device.type / "model", str(device))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    codes = tokenizer.encode(images)
    again = tokenizer.decode(codes)
    assert again.shape == images.shape
    assert again.device.type == device.type
    elsewhere = load_tokenizer(tmp_path / device.type / "model", "cpu").decode([code.cpu() for code in codes])
    torch.testing.assert_close(again.cpu(), elsewhere, rtol=0, atol=2e-2)
