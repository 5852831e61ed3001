"""Checkpoints after a full disk, damage and kills."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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
def test_a_full_disk_keeps_earlier_checkpoints(tmp_path: Path) -> None:
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
    with pytest.raises(FlatvqError, match=r"state\.json' (is damaged|holds no)"):
        load_checkpoint(path, model, optimizer)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def _with(path: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path / name)
    change(tensors)
    save_file(tensors, path / name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "state.json' holds no valid 'step'": lambda path: (path / "state.json").write_text(
        '{"format": 1, "step": true}'
    ),
    "holds the state of step 5": lambda path: (path / "state.json").write_text('{"format": 1, "step": 5}'),
    "has int32 of shape [4] for 'bias', and the model float32 of shape [4]": lambda path: _with(
        path, "model.safetensors", lambda tensors: tensors.update(bias=tensors["bias"].int())
    ),
    "holds NaN or infinity in 'weight'": lambda path: _with(
        path, "model.safetensors", lambda tensors: tensors["weight"][0].fill_(float("nan"))
    ),
    "has float32 of shape [4] for '7.exp_avg', and the model nothing": lambda path: _with(
        path, "optimizer.safetensors", lambda tensors: tensors.update({"7.exp_avg": torch.zeros(4)})
    ),
    "has float32 of shape [4] for '-1.exp_avg', and the model nothing": lambda path: _with(
        path, "optimizer.safetensors", lambda tensors: tensors.update({"-1.exp_avg": torch.zeros(4)})
    ),
    "has nothing for '1.exp_avg_sq', and the model float32 of shape [4]": lambda path: _with(
        path, "optimizer.safetensors", lambda tensors: tensors.pop("1.exp_avg_sq")
    ),
    "has float32 of shape [1] for '0.exp_avg', and the model float32 of shape [4, 4]": lambda path: _with(
        path, "optimizer.safetensors", lambda tensors: tensors.update({"0.exp_avg": torch.zeros(1)})
    ),
    "optimizer.safetensors' is damaged": lambda path: (path / "optimizer.safetensors").write_bytes(b"x" * 9),
}


@pytest.mark.parametrize("named", DAMAGES)
def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path, named: str) -> None:
    path = save_checkpoint(tmp_path, 3, *_trained(4))
    DAMAGES[named](path)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(FlatvqError, match=re.escape(named)):
        load_checkpoint(path, model, optimizer)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not optimizer.state


def test_a_checkpoint_is_restored(tmp_path: Path) -> None:
    model, optimizer = _trained(4)
    path = save_checkpoint(tmp_path, 3, model, optimizer)
    other, restored = _trained(4)
    assert load_checkpoint(path, other, restored) == 3
    assert torch.equal(other.weight, model.weight)
    for slot, expected in zip(restored.state.values(), optimizer.state.values(), strict=True):
        assert slot.keys() == expected.keys()
        assert all(torch.equal(slot[key], expected[key]) for key in slot)


def test_a_folder_with_another_name_is_not_a_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, *_trained(4))
    (tmp_path / "step-00000001.old").mkdir()
    (tmp_path / "step-best").mkdir()
    prune_checkpoints(tmp_path)
    assert [path.name for path in newest_checkpoints(tmp_path)] == ["step-00000002", "step-00000001"]
    assert (tmp_path / "step-best").exists()


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
