"""Checkpoints: weights and optimiser state as safetensors, the rest as JSON; written whole or not at all.

A checkpoint is a folder `step-NNNNNNNN`, written and removed atomically: after a kill at any instant it is
there with all its files or not at all. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.files import remove_folder, remove_leftovers, replacing_folder

__all__ = ["load_checkpoint", "newest_checkpoints", "prune_checkpoints", "save_checkpoint"]

_KEPT = 2


def save_checkpoint(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write a checkpoint and drop all but the newest two.

    Args:
        folder: the run's `checkpoints` folder.
        step: optimiser steps done.
        model: with its codebooks' state.
        optimizer: Adam or AdamW.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if it cannot be written, such as on a full disk; the checkpoints before it are unchanged.
    """
    path = folder / f"step-{step:08d}"
    with replacing_folder(path) as place:
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        (place / "model.safetensors").write_bytes(save(weights))
        (place / "optimizer.safetensors").write_bytes(save(_flat_state(optimizer)))
        (place / "state.json").write_text(json.dumps({"format": 1, "step": step}))
    prune_checkpoints(folder)
    return path


def prune_checkpoints(folder: Path) -> None:
    """Remove all but the newest two checkpoints, and what a kill left of others."""
    if folder.is_dir():
        remove_leftovers(folder)
        for old in newest_checkpoints(folder)[_KEPT:]:
            remove_folder(old)


def newest_checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore model and optimiser.

    Args:
        path: a checkpoint's folder.
        model: of the same recipe.
        optimizer: over that model's parameters.

    Returns:
        Optimiser steps done.

    Raises:
        FlatvqError: if a file is missing, damaged, or of another model.
    """
    try:
        # All is read before anything is changed: a half-damaged checkpoint must not leave half its weights.
        step = int(json.loads((path / "state.json").read_text())["step"])
        weights = load_file(path / "model.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        model.load_state_dict(weights)
        _restore(optimizer, moments)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        what = f"checkpoint '{path}' cannot be read ({type(error).__name__})"
        raise FlatvqError(what, "delete that folder to go on from the one before it") from error
    return step


def _flat_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value.contiguous() for index, slot in state.items() for key, value in slot.items()
    }


def _restore(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        # Files hold the plain layout; the moments have to lie in memory as their weights do, or
        # vector instructions would meet them in another order.
        alike = value.shape == parameter.shape
        slots.setdefault(int(index), {})[key] = torch.empty_like(parameter).copy_(value) if alike else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
