"""Two processes with half a batch each are one process with the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("two_processes.py")
SCENARIOS = [
    "random, ema",
    "kmeans, ema",
    "kmeans, ema, cosine",
    "data over steps, ema",
    "kmeans, gradient",
    "data over steps, gradient, cosine",
    "uneven rounding, ema",
]

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each process saw: rank 0 and rank 1 of two, and the only one of one."""
    folder = tmp_path_factory.mktemp("distributed")
    processes = [(0, 2), (1, 2), (0, 1)]
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(world_size), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, world_size in processes
    ]
    try:
        for process in running:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in running:
            process.kill()
    return [torch.load(folder / f"{rank}-of-{world_size}.pt") for rank, world_size in processes]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_codebooks_are_bitwise_equal_over_processes(results, scenario):
    first, second, _ = (result[scenario] for result in results)
    for one, other in zip(first["path"], second["path"], strict=True):
        for name in ("codes", "counts", "births", "weights"):
            assert torch.equal(one[name], other[name])
    assert first["events"] == second["events"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_halves_are_one_whole(results, scenario):
    first, second, whole = (result[scenario] for result in results)
    for one, other, expected in zip(first["path"], second["path"], whole["path"], strict=True):
        assert torch.equal(torch.cat([one["indices"], other["indices"]]), expected["indices"])
        assert torch.equal(one["births"], expected["births"])
        # The same sums in another order: a few roundings per step, over twelve steps.
        for name in ("codes", "counts", "weights"):
            torch.testing.assert_close(one[name], expected[name], rtol=1e-4, atol=1e-5)
    assert first["events"] == whole["events"]


def test_the_scenarios_have_something_to_show(results):
    """No comparison above is empty: seeds are drawn, codes replaced, codes and encoder moved."""
    for scenario, result in results[2].items():
        kinds = {event[0]: event for event in result["events"]}
        assert ("InitEvent" in kinds) == ("random" not in scenario)
        if "uneven" not in scenario and "random" not in scenario:
            assert sum(event[3] for event in result["events"] if event[0] == "ReplacementEvent") > 3
        if "over steps" in scenario:
            assert kinds["InitEvent"][1:4] == (2, "DataInit", 600)
        start, end = result["path"][0], result["path"][-1]
        assert not torch.equal(start["codes"], end["codes"])
        assert not torch.equal(start["weights"], end["weights"])
    assert set(results[2]) == set(SCENARIOS)
