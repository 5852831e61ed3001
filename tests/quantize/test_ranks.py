"""Processes that share a codebook: ragged shares, groups, DDP, FSDP2. See ranks.py."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.quantize.ranks import SIZES

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each process saw: rank 0 and rank 1 of two, and the only one of one."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [(0, 2), (1, 2), (0, 1)]
    script = Path(__file__).with_name("ranks.py")
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(rank), str(world_size), str(folder)],
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


@pytest.mark.parametrize("masked", ["", ", masked"])
@pytest.mark.parametrize("name", ["ema", "over steps", "gradient"])
def test_ragged_shares_are_one_whole(seen, name, masked):
    first, second, whole = (one[name + masked] for one in seen)
    for step, (one, other, expected) in enumerate(
        zip(first["path"], second["path"], whole["path"], strict=True)
    ):
        assert len(one["indices"]) == SIZES[step][0]
        assert torch.equal(torch.cat([one.pop("indices"), other.pop("indices")]), expected.pop("indices"))
        for key, tensor in expected.items():
            assert torch.equal(one[key], other[key]), key
            # The same sums in another order: a few roundings per step, over twelve steps.
            torch.testing.assert_close(one[key], tensor, rtol=1e-4, atol=1e-5)
    assert first["events"] == second["events"]
    for event, expected in zip(first["events"], whole["events"], strict=True):
        assert event == expected
    assert len(whole["events"]) >= 3


def test_a_process_group_of_one_trains_alone(seen):
    for rank in range(2):
        assert torch.equal(seen[rank]["own"], seen[2]["own"][rank])


def test_what_the_first_process_loads_reaches_all(seen):
    for one in seen[:2]:
        result = one["loaded"]
        assert torch.equal(result["before"], result["given"])
        moved = (result["after"] - result["given"]).norm() / result["given"].norm()
        assert 0 < moved < 0.05
        assert torch.equal(result["after"], seen[0]["loaded"]["after"])


def test_usage_is_counted_over_processes(seen):
    assert seen[0]["counted"] == seen[1]["counted"] == [1, 2, 0, 3]


@pytest.mark.parametrize("update", ["Ema", "Gradient"])
@pytest.mark.parametrize("init", ["KMeansInit", "DataInit"])
@pytest.mark.parametrize("how", ["fsdp2", "linears"])
def test_fsdp2_trains_what_ddp_trains(seen, update, init, how):
    whole, sharded = (seen[0][str((update, init, each))] for each in ("ddp", how))
    assert whole["events"] == sharded["events"]
    assert len(whole["events"]) == 3
    assert whole["events"][-1][2] > 0  # codes were replaced
    for name, expected in whole["state"].items():
        torch.testing.assert_close(sharded["state"][name], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(sharded["state"][name], seen[1][str((update, init, how))]["state"][name])


def test_a_codebook_that_is_sharded_by_itself_is_refused(seen):
    for each in seen[:2]:
        assert each["sharded codebook"].startswith("the codebook is sharded and was not gathered")


def test_a_static_graph_trains_what_ddp_trains(seen):
    for rank in (0, 1):
        whole, static = seen[rank]["autoencoder"]
        for one, other, first in zip(whole, static, seen[0]["autoencoder"][0], strict=True):
            assert torch.equal(one, other)
            assert torch.equal(one, first)


@pytest.mark.parametrize("update", ["Ema", "Gradient"])
def test_fsdp2_in_bfloat16_keeps_its_state_in_float32(seen, update):
    whole, sharded = (seen[0][str((update, "KMeansInit", how))] for how in ("ddp", "bfloat16"))
    assert len(sharded["events"]) == len(whole["events"])
    for name, expected in whole["state"].items():
        assert sharded["state"][name].dtype == expected.dtype, name
