"""Checkpoints: what full disks, damage and kills leave of them."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from flatvq.errors import FlatvqError
from flatvq.train.checkpoint import (
    load_checkpoint,
    newest_checkpoints,
    prune_checkpoints,
    save_checkpoint,
)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow beyond 2,000 bytes while the test runs, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _trained(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(width, width)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return model, optimizer


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, *_trained(4))
    with pytest.raises(OSError, match="File too large") as caught:
        save_checkpoint(tmp_path, 2, *_trained(30))
    assert caught.value.filename == str(tmp_path / "step-00000002")
    assert _names(tmp_path) == {"step-00000001"}
    assert load_checkpoint(tmp_path / "step-00000001", *_trained(4)) == 1


@pytest.mark.parametrize("state", ["{}", "[1]", '{"step": "x"}', '{"step": null}', "{"])
def test_a_state_without_a_step_changes_nothing(tmp_path: Path, state: str) -> None:
    path = save_checkpoint(tmp_path, 3, *_trained(4))
    (path / "state.json").write_text(state)
    model, optimizer = _trained(4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(FlatvqError, match="delete that folder to go on from the one before it"):
        load_checkpoint(path, model, optimizer)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_two_checkpoints_are_kept_and_leftovers_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (tmp_path / f"step-{step:08d}").mkdir()
    left = tmp_path / f".step-00000000.removed.{os.getpid()}-{os.getpid()}.partial"
    left.mkdir()
    (left / "state.json").write_text(json.dumps({"step": 0}))
    prune_checkpoints(tmp_path)
    assert _names(tmp_path) == {"step-00000002", "step-00000003"}
    assert [path.name for path in newest_checkpoints(tmp_path)] == ["step-00000003", "step-00000002"]
    prune_checkpoints(tmp_path / "nowhere")
