"""A run is finished only if its records say so and are not damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq.recipe import TrialRecipe, parse
from flatvq.train.trial import is_finished

RECIPE = parse(
    TrialRecipe,
    {"data": {"crop": 16}, "model": {"levels": [{"downsample": 4, "codebook_size": 8, "code_dim": 2}]}},
)
LEVEL = {
    "grid": [4, 4],
    "codebook_size": 8,
    "code_dim": 2,
    "usage": 0.5,
    "perplexity": 3.5,
    "used_codes": 4,
    "codes_for_99": 4,
    "quantization_error": 0.25,
}
FIGURES = ("psnr_db", "psnr_of_mean_mse_db", "mse", "bits_per_image", "bits_per_pixel")
METRICS = {
    "evaluation_protocol": "flatvq-1",
    "crop": 16,
    "images": 3,
    "ssim": None,
    "ms_ssim": None,
    "effective_bits_per_image": 1.0,
    "levels": [LEVEL],
    **dict.fromkeys(FIGURES, 0.5),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(RECIPE.model_dump_json())
    (tmp_path / "status.json").write_text('{"status": "done", "step": 5, "steps": 5, "error": null}')
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    return tmp_path


def test_a_run_with_its_records_is_finished(run: Path) -> None:
    assert is_finished(run)


@pytest.mark.parametrize("name", ["recipe.json", "status.json", "metrics.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"[" * 100_000, b"\xff"])
def test_a_run_with_a_damaged_record_is_not(run: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (run / name).unlink()
    elif (name, content) == ("recipe.json", b"{}"):
        pytest.skip("a recipe's keys all have defaults")
    else:
        (run / name).write_bytes(content)
    assert not is_finished(run)


@pytest.mark.parametrize(
    "change",
    [
        {"psnr_db": "25"},
        {"psnr_db": None},
        {"psnr_db": True},
        {"levels": []},
        {"levels": [LEVEL, LEVEL]},
        {"levels": [{**LEVEL, "codebook_size": 16}]},
        {"levels": [{**LEVEL, "grid": [8, 8]}]},
        {"levels": LEVEL},
    ],
)
def test_metrics_of_another_kind_or_model_are_not_those_of_the_run(run: Path, change: dict[str, Any]) -> None:
    (run / "metrics.json").write_text(json.dumps({**METRICS, **change}))
    assert not is_finished(run)


@pytest.mark.parametrize("status", ["running", "stopped", "failed", "finished"])
def test_another_status_is_not_done(run: Path, status: str) -> None:
    (run / "status.json").write_text(json.dumps({"status": status, "step": 5, "steps": 5, "error": None}))
    assert not is_finished(run)
