"""The figures of docs/scaling.md follow from committed records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "scaling.md").read_text(encoding="utf-8").split())
IMAGES = 1_281_167
BILLION = 10**9


def record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))


def seconds(name: str, case: str) -> float:
    (timing,) = [each for each in record(name)["cases"] if each["case"] == case]
    return timing["flatvq_s"]["median"]


STEP = seconds("gpu-h100.json", "training step, single-level, K 5793, D 64, 256 px, batch 64")
DECODING = seconds("bench.json", "input pipeline, JPEG to 128 px crops, nothing cached, an image") * 2
RECIPE = load_recipe("imagenet-256")
TRIAL_IMAGES = RECIPE.train.steps * RECIPE.train.batch_size
TRIAL_HOURS = TRIAL_IMAGES / 64 * STEP / 3600
ARMS = len(RECIPE.arms)
BYTES = record("compression.json")["sizes"][-1]["nominal_bytes_per_image"]
SCALE = record("scale.json")
OPENING = record("opening.json")
SHARDS = record("shards.json")
LOADER = SHARDS["loader"]


@pytest.mark.parametrize(
    "figure",
    [
        f"{1000 * STEP / 64:.2f} ms of a GPU",
        f"{1000 * DECODING:.1f} ms of a core",
        f"{TRIAL_HOURS:.2f} hours of a GPU",
        f"{DECODING / (STEP / 64):.1f} cores for each GPU",
        f"{ARMS * RECIPE.looks[0]} trials",
        f"{ARMS * RECIPE.looks[0] * TRIAL_HOURS:.0f} hours of a GPU",
        f"{ARMS * RECIPE.looks[-1]} trials",
        f"{ARMS * RECIPE.looks[-1] * TRIAL_HOURS:.0f} hours of a GPU",
        f"{IMAGES * 256 * 256 * 3 / 1e9:.0f} GB",
        f"{1000 * TRIAL_HOURS:.0f} hours of GPUs",
        f"{-(-1000 // 64) * TRIAL_HOURS:.1f} hours",
        f"{64 * DECODING / (STEP / 64):.0f} cores",
        f"{BYTES:,.0f} bytes",
        f"{BYTES * BILLION / 1e12:.1f} TB",
        f"{BILLION * DECODING / 3600:.0f} hours of a core",
        f"{SCALE['trials']:,} trials",
        f"{SCALE['submission_ms_per_trial']:.1f} ms",
        f"{SCALE['waiting_ms_per_trial']:.1f} ms",
        f"{SCALE['driver_mb']:,} MB",
        f"{SCALE['driver_kb_per_trial']:.1f} KB for each trial",
        f"{SCALE['status_seconds']:.1f} s",
        f"{SCALE['status_command_seconds']:.1f} s",
        f"{OPENING['survey_ms_per_file']:.2f} ms",
        f"{OPENING['opened_files']:,} files",
        f"{OPENING['opening_seconds']:.1f} s of a core",
        f"{OPENING['opened_bytes_per_file']} bytes",
        f"{OPENING['manifest_bytes_per_file']} bytes",
        f"{OPENING['opened_bytes_per_file'] * BILLION / 1e12:.1f} TB in memory",
        f"{OPENING['survey_ms_per_file'] * BILLION / 1000 / 86_400:.1f} days",
        f"{OPENING['opening_seconds'] / OPENING['opened_files'] * BILLION / 3600:.1f} hours of a core",
        f"{OPENING['opening_seconds'] / OPENING['opened_files'] * 10**6:.0f} seconds",
        f"{OPENING['opened_bytes_per_file'] * 10**6 / 1e9:.1f} GB for each million",
        f"the loader alone, from tar shards: its pace, as a share of that from a folder | "
        f"{LOADER['pace_ratio']['median']:.2f} |",
        f"{LOADER['shards']['processor_ms_per_image']['median']:.2f} ms, from a folder "
        f"{LOADER['folder']['processor_ms_per_image']['median']:.2f} ms",
        f"`shuffle_mib` {SHARDS['shuffle_mib']}: memory at the peak | {LOADER['shards']['peak_mb']} MB, "
        f"from a folder {LOADER['folder']['peak_mb']} MB",
        f"training steps from tar shards: their pace, as a share of that from a folder | "
        f"{SHARDS['step']['pace_ratio']['median']:.2f} |",
        f"epochs of {LOADER['images']} photographs",
    ],
)
def test_the_page_has_the_figure(figure: str) -> None:
    assert figure in PAGE
