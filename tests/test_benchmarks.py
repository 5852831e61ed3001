"""The benchmarks compute what they say, and the page of performance shows the committed record.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import render
from benchmarks.contenders import eval_pair, flatvq_step, model_recipe, peer_step, training_pair
from benchmarks.paper import activation_elements
from benchmarks.suites import memory, pipeline, quantizer, trained
from benchmarks.timing import alternate, compared
from PIL import Image

from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]


def _record() -> dict[str, Any]:
    return json.loads((ROOT / "results" / "bench.json").read_text())


def _gpu() -> dict[str, Any]:
    return json.loads((ROOT / "results" / "gpu-h100.json").read_text())


def _others() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("bench-*.json"))]


def test_the_page_shows_the_committed_records() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page == render.filled(_record(), _others(), _gpu(), page), "run `python -m benchmarks --render`"


def test_machines_stand_side_by_side_and_what_one_lacks_is_a_dash() -> None:
    case = {"case": "search", "target": 12, "thresholds": True, "ratio": {"median": 2.0}}
    tuned = _machine_with([case, {**case, "thresholds": False, "ratio": {"median": 30.0}}], "amx_bf16")
    head, _, row = render.processors([tuned, _machine_with([], "avx2")])
    assert "AMX, 2026-01-02; search: FAISS" in head
    assert "AVX2, 2026-01-02" in head
    assert row == "| search | 12x | 2.00x; 30x | – |"
    other = _machine_with([], "")
    other["machine"]["instructions"] = []  # as on ARM
    assert "none of AVX and AMX" in render.processors([tuned, other])[0]


def test_a_child_prints_its_answer_and_nothing_else() -> None:
    """Libraries that look for leaks when they are unloaded took what the child had frozen for one."""
    asked = json.dumps({"suite": "memory", "side": "flatvq", "levels": 0, "size": 64, "dim": 4})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.child", asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def _machine_with(cases: list[dict[str, Any]], instructions: str) -> dict[str, Any]:
    machine = {"processor": "Some(R) CPU", "instructions": ["avx2", instructions], "search": "FAISS"}
    return {"machine": machine, "created": "2026-01-02T03:04:05+00:00", "cases": cases}


def test_the_record_was_measured_in_full_and_its_ratios_lie_within_their_quartiles() -> None:
    record = _record()
    assert record["quick"] is False
    assert {case["thresholds"] for case in record["cases"]} == {True, False}
    for case in record["cases"]:
        assert case["ratio"]["q1"] <= case["ratio"]["median"] <= case["ratio"]["q3"]
        assert case["same"]


def test_each_search_of_the_record_stands_beside_its_products_in_float32() -> None:
    searches = [case for case in _record()["cases"] if "products_s" in case]
    searches = [case for case in searches if "trained" not in case["case"]]  # of which most are passed over
    shapes = len(quantizer.EVAL) * 2 + len(quantizer.TRAINING) + len(quantizer.IMAGE)
    assert len(searches) == 2 * shapes
    for case in searches:
        # Screening, in integers or bfloat16, is up to three times as fast as they are, and so is pruning
        # where codes have 8 dimensions; what is faster still would be a mistake.
        assert 0 < case["products_s"] < 4 * case["flatvq_s"]["median"]


def test_a_page_without_a_place_for_a_block_is_refused() -> None:
    with pytest.raises(AssertionError, match="no place for machine"):
        render.filled(_record(), [], _gpu(), "# Performance\n")


@pytest.mark.parametrize("option", [["--render"], ["--only", "curves"]])
def test_a_record_that_is_not_there_is_one_line(option, tmp_path, monkeypatch, capsys) -> None:
    from benchmarks import __main__ as command

    missing = str(tmp_path / "bench.json")
    monkeypatch.setattr("sys.argv", ["benchmarks", *option, "--out", missing])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert f"there is no record {missing}" in capsys.readouterr().err


def test_a_suite_that_fails_ends_in_one_line_not_in_a_second_traceback() -> None:
    from benchmarks import __main__ as command

    with pytest.raises(SystemExit, match="suite nonsense ended as is said above; nothing is written"):
        command._child(suite="nonsense")


def test_the_pipeline_alone_is_measured_again_in_its_place(tmp_path, monkeypatch) -> None:
    from benchmarks import __main__ as command

    old = {"cases": [{"case": name, "thresholds": True, "new": False} for name in ("a", "b", "c")]}
    monkeypatch.setattr(
        command, "_child", lambda **asked: [{"case": "b", "new": asked["suite"] == "pipeline"}]
    )
    asked = argparse.Namespace(only="pipeline", photographs=tmp_path, quick=False)
    assert [case["new"] for case in command._again(old, asked)["cases"]] == [False, True, False]
    asked.photographs = tmp_path / "none"
    assert command._again(old, asked) == old


def test_contenders_take_turns_and_ratios_are_of_the_same_round() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in ("flatvq", "other")}
    taken = alternate(contenders, seconds=0.0, rounds=50, warm_up=2)
    assert calls[:4] == ["flatvq", "flatvq", "other", "other"]
    assert calls[4:] == ["flatvq", "other"] * 3  # three rounds, however little time there is
    assert {name: len(values) for name, values in taken.items()} == {"flatvq": 3, "other": 3}
    # A machine that is ten times as slow in the second round changes no ratio.
    comparison = compared({"flatvq": [1.0, 10.0, 1.0], "other": [2.0, 20.0, 2.0]})
    assert comparison["ratio"] == {"median": 2.0, "q1": 2.0, "q3": 2.0}


def test_a_trained_model_s_latents_lie_near_the_codes_that_both_sides_then_get() -> None:
    vectors, codes = trained.latents(512)
    assert (vectors.shape, codes.shape) == ((512, 64), (2435, 64))
    distances = torch.cdist(vectors.double(), codes.double())
    assert distances.min(dim=1).values.median() < 0.2 * distances.median()
    spread = torch.linalg.eigvalsh(codes.double().T.cov())
    assert spread[-4:].sum() > 0.98 * spread.sum()  # as docs/performance.md says
    pair, same = eval_pair(vectors, len(codes), codes)
    assert same.startswith("512 of 512 ")
    calls, same = quantizer.search_pair(vectors, codes)
    assert same == "512 of 512 indices are the same"
    assert calls["flatvq"]().tolist() == distances.argmin(dim=1).tolist()
    assert pair.keys() == calls.keys()


@pytest.mark.parametrize(("size", "dim"), [(32, 64), (40, 8)])
def test_both_sides_of_a_pair_quantize_alike(size: int, dim: int) -> None:
    vectors = torch.randn(512, dim, generator=torch.Generator().manual_seed(0))
    pair, same = eval_pair(vectors, size)
    assert same.startswith("512 of 512")
    for call in pair.values():
        call()


def test_a_pair_of_which_one_side_s_codes_are_further_is_not_timed_and_that_side_is_named() -> None:
    from benchmarks.contenders import _agreement

    vectors = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    codes = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    nearest, second = torch.cdist(vectors.double(), codes.double()).topk(2, largest=False).indices.T
    assert _agreement(vectors, codes, nearest, nearest).startswith("2000 of 2000 indices are the same, the")
    for count in (1, 3):
        off = torch.cat([second[:count], nearest[count:]])
        with pytest.raises(AssertionError, match=f"flatvq's codes of {count} vectors are further"):
            _agreement(vectors, codes, off, nearest)
        with pytest.raises(AssertionError, match=f"the peer's codes of {count} vectors are further"):
            _agreement(vectors, codes, nearest, off)


def test_both_sides_of_a_training_pair_step_alike() -> None:
    vectors = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    pair, same = training_pair(vectors, 16)
    assert "same indices, loss, gradient and codes" in same
    for call in pair.values():
        call()


def test_a_pair_that_disagrees_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import contenders

    whole = contenders.peer_quantizer

    def wrong(size: int, dim: int, **options: Any) -> torch.nn.Module:
        return whole(size, dim, **{**options, "commitment_weight": 0.5})

    monkeypatch.setattr(contenders, "peer_quantizer", wrong)
    with pytest.raises(AssertionError):
        training_pair(torch.randn(512, 8, generator=torch.Generator().manual_seed(0)), 16)


@pytest.mark.parametrize("step", [flatvq_step, peer_step])
def test_a_whole_step_trains(step: Callable[..., Callable[[], object]]) -> None:
    model = model_recipe(2, 8, 4).model_copy(update={"width": 8, "residual_width": 4})
    step(model, torch.rand(2, 3, 32, 32))()


def test_activations_are_those_that_the_convolutions_put_out() -> None:
    recipe = model_recipe(2, 8, 4).model_copy(update={"width": 8, "residual_width": 4})
    model = build_vqvae(recipe, CodebookRecipe()).eval()
    seen = []
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.numel()))
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64))
    assert sum(seen) == activation_elements(recipe, 64)


def test_the_loader_cuts_what_the_pipeline_cuts(tmp_path: Path) -> None:
    # One colour an image, so that a crop tells where it came from whatever was cut.
    for value in range(4):
        pixels = np.full((200, 260, 3), 60 * value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{value}.png")
    cut = pipeline.Crops(tmp_path)[2]
    assert (cut.shape, cut.dtype) == ((3, pipeline.CROP, pipeline.CROP), torch.uint8)
    assert set(cut.unique().tolist()) == {120}


def test_a_peak_is_at_least_what_was_allocated() -> None:
    if not memory.RESET.exists():
        pytest.skip("the system does not tell a process' peak")
    measured = memory.peak(lambda: torch.ones(2**24).sum())
    assert measured["fits"] is True
    assert measured["bytes"] > 0.95 * 4 * 2**24  # the kernel counts a few pages late


def test_what_does_not_fit_fails_by_itself() -> None:
    if not memory.RESET.exists():
        pytest.skip("the system does not tell a process' peak")
    assert memory.peak(lambda: torch.ones(2**45))["fits"] is False


def test_the_plots_are_drawn_from_the_record_alone(tmp_path: Path) -> None:
    render.plots(_record(), tmp_path)
    for name in ("performance-ratios.svg", "performance-curves.svg"):
        drawn, committed = (folder / name for folder in (tmp_path, ROOT / "docs"))
        # Fonts differ from machine to machine, the labels do not.
        labels = [re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text()) for path in (drawn, committed)]
        assert labels[0]
        assert labels[0] == labels[1]
