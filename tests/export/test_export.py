"""Exported programs encode and decode as their tokenizer does, for any batch and side, in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.export import (
    check_programs,
    export,
    load_program,
    noise_batches,
)
from flatvq.model import VQVAE, build_vqvae, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[3] / "shared" / "imagenet-sample"
HEADLINE = Path(__file__).parents[2] / "results" / "headline" / "models"
LEVELS = [
    {"downsample": 4, "codebook_size": 64, "code_dim": 8},
    {"downsample": 2, "codebook_size": 32, "code_dim": 8},
]
MODELS: dict[str, dict[str, Any]] = {
    "conditioned": {"levels": LEVELS, "hierarchy": "conditioned"},
    "scalar": {"levels": [{"downsample": 4, "scalar_levels": [8, 5, 5]}], "channels": 1},
    "residual stages": {
        "levels": [
            {"downsample": 4, "codebook_size": 16, "code_dim": 4, "quantizer": "residual", "stages": 3},
            {"downsample": 2, "code_dim": 7, "quantizer": "lookup-free"},
        ]
    },
}


def model(name: str) -> VQVAE:
    torch.manual_seed(0)
    recipe = ModelRecipe(width=16, residual_width=8, **MODELS[name])
    return build_vqvae(recipe, CodebookRecipe()).eval()


def exported(folder: Path, tokenizer: Path, kind: str, *images: Path) -> dict[str, float]:
    """Export a tokenizer in another process into a folder, and return the parity."""
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    command = [sys.executable, Path(__file__).parent / "exported.py", tokenizer, folder, kind, *images]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stderr == "", "the exporters say nothing"
    return json.loads(result.stdout)


def saved(name: str, folder: Path) -> Path:
    config = {"model": model(name).recipe.model_dump(mode="json"), "codebook": {}}
    save_tokenizer(folder, model(name), config)
    return folder


@pytest.mark.parametrize("name", ["conditioned", "residual stages"])
def test_programs_agree_with_their_tokenizer_and_run_without_flatvq(name: str, tmp_path: Path) -> None:
    out, original = tmp_path / "out", model(name)
    parity = exported(out, saved(name, tmp_path / "tokenizer"), "onnx")
    assert sorted(file.name for file in out.iterdir()) == ["decoder.onnx", "encoder.onnx", "program.json"]
    assert parity["indices"] > 100
    assert parity["differing"] <= parity["indices"] // 1000
    assert parity["largest_decode_error"] < 1e-6
    described = json.loads((out / "program.json").read_text())
    sizes = [level.codebook_size for level in original.recipe.levels]
    assert [level["codebook_size"] for level in described["levels"]] == sizes
    code = """if True:
        import sys, numpy, onnxruntime
        assert "torch" not in sys.modules and "flatvq" not in sys.modules
        sessions = [onnxruntime.InferenceSession(f"out/{half}.onnx") for half in ("encoder", "decoder")]
        images = numpy.load("images.npy")
        levels = sessions[0].run(None, {"images": images})
        decoded = sessions[1].run(None, {f"level_{n}": level for n, level in enumerate(levels)})[0]
        numpy.savez("result.npz", *levels, decoded=decoded)
    """
    images = next(noise_batches(original))
    np.save(tmp_path / "images.npy", images.numpy())
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    with np.load(tmp_path / "result.npz") as result:
        for number, level in enumerate(original.encode(images)):
            assert (result[f"arr_{number}"] != level.numpy()).mean() < 0.002
        assert result["decoded"].shape == tuple(images.shape)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the photographs are not on this machine")
def test_a_trained_tokenizer_has_no_differing_index_on_photographs(tmp_path: Path) -> None:
    folder = HEADLINE / "single-seed-1000"
    parity = exported(tmp_path / "out", folder, "onnx", SAMPLE / "val")
    assert parity["indices"] > 40_000
    assert parity["differing"] <= parity["indices"] // 10_000, "more than near-ties"
    assert parity["largest_decode_error"] < 2e-6


def test_the_command_exports_and_checks(tmp_path: Path) -> None:
    tokenizer = saved("scalar", tmp_path / "tokenizer")
    command = [sys.executable, "-m", "flatvq", "export", tokenizer, tmp_path / "out", "--to", "pt2"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Checked: 0 of" in result.stdout
    # Programs of another model fail the check.
    original = model("scalar")
    with torch.no_grad():
        for weight in original.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    with pytest.raises(FlatvqError, match=r"differ from the tokenizer: \d+ of \d+ indices"):
        check_programs(original, tmp_path / "out", noise_batches(original))


def test_unknown_formats_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlatvqError, match="no format is named 'onx'"):
        export(model("scalar"), tmp_path, "onx")
    with pytest.raises(FlatvqError, match="holds no exported programs"):
        load_program(tmp_path)
