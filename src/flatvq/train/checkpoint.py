"""Checkpoints: weights and optimiser state as safetensors, the rest as JSON; written whole or not at all.

A checkpoint is a folder `step-NNNNNNNN`. It is written under a temporary name, synced to disk and renamed, so
that a kill at any instant leaves either all of it or nothing that counts. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flatvq.errors import FlatvqError

__all__ = ["load_checkpoint", "newest_checkpoints", "save_checkpoint"]

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
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".step-{step:08d}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        temporary / "model.safetensors",
    )
    save_file(_flat_state(optimizer), temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps({"format": 1, "step": step}))
    for file in temporary.iterdir():
        _sync(file)
    _sync(temporary)
    # A resume may pass the same step again; its bits are the same, so either copy will do.
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(folder)
    for old in newest_checkpoints(folder)[_KEPT:]:
        shutil.rmtree(old)
    return final


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
        state = json.loads((path / "state.json").read_text())
        weights = load_file(path / "model.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        model.load_state_dict(weights)
        _restore(optimizer, moments)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        what = f"checkpoint '{path}' cannot be read ({type(error).__name__})"
        raise FlatvqError(what, "delete that folder to go on from the one before it") from error
    return int(state["step"])


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


def _sync(path: Path) -> None:
    """Force a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
