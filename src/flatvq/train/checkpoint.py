"""Checkpoints: weights and optimizer state as safetensors, the step as JSON.

A checkpoint is a folder `step-NNNNNNNN`. It is written and removed atomically: after a kill at any instant,
it either exists with all its files or does not exist. Nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.files import remove_folder, remove_leftovers, replacing_folder
from flatvq.model.weights import describe_exactly, require_alike, require_finite, tensors_of
from flatvq.records import Record, read_record
from flatvq.records.reading import Format1, Step, read_file

__all__ = ["load_checkpoint", "newest_checkpoints", "prune_checkpoints", "save_checkpoint"]

_KEPT = 2
# The state of Adam and AdamW for each weight.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class _State(Record):
    """The content of state.json."""

    format: Format1
    step: Step


def save_checkpoint(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write a checkpoint, and remove all but the newest two.

    Args:
        folder: the `checkpoints` folder of the run.
        step: the number of optimizer steps done.
        model: the model. The state of its codebooks is saved with its weights.
        optimizer: Adam or AdamW.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: if it cannot be written, for example on a full disk. Earlier checkpoints are unchanged.
    """
    path = folder / _name(step)
    with replacing_folder(path) as temporary:
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        (temporary / "model.safetensors").write_bytes(save(weights))
        (temporary / "optimizer.safetensors").write_bytes(save(_flat_state(optimizer)))
        (temporary / "state.json").write_text(json.dumps({"format": 1, "step": step}))
    prune_checkpoints(folder)
    return path


def prune_checkpoints(folder: Path) -> None:
    """Remove all but the newest two checkpoints, and temporary files of killed processes."""
    if folder.is_dir():
        remove_leftovers(folder)
        for old in newest_checkpoints(folder)[_KEPT:]:
            remove_folder(old)


def newest_checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a run, newest first."""
    return sorted(folder.glob("step-" + 8 * "[0-9]"), reverse=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore a model and its optimizer.

    Args:
        path: the folder of the checkpoint.
        model: a model of the same recipe.
        optimizer: an optimizer of the parameters of `model`.

    Returns:
        The number of optimizer steps done.

    Raises:
        FlatvqError: if a file is missing or damaged, or belongs to another model or step. The model and the
            optimizer are unchanged then.
    """
    remedy = "delete that folder to resume from the checkpoint before it"
    step = read_record(_State, path / "state.json", remedy).step
    paths = [path / "model.safetensors", path / "optimizer.safetensors"]
    weights, flat = (tensors_of(read_file(file), f"'{file}'", remedy) for file in paths)
    # Check everything before changing anything, so that a damaged checkpoint cannot be loaded in part.
    if path.name != _name(step):
        raise FlatvqError(f"checkpoint '{path}' holds the state of step {step}", remedy)
    require_alike(weights, model.state_dict(), describe_exactly, f"'{paths[0]}'", remedy)
    moments = _moments(flat, optimizer, f"'{paths[1]}'", remedy)
    for tensors, file in zip((weights, flat), paths, strict=True):
        require_finite(tensors, f"'{file}'", remedy)
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _flat_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value.contiguous() for index, slot in state.items() for key, value in slot.items()
    }


def _moments(
    flat: dict[str, Tensor], optimizer: torch.optim.Optimizer, origin: str, remedy: str
) -> dict[int, dict[str, Tensor]]:
    """Check the optimizer state of a file, and return it by the number of the parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {name.partition(".")[0] for name in flat}
    trained = {number: weight for number, weight in enumerate(parameters) if str(number) in numbers}
    expected = {
        f"{number}.{key}": torch.zeros((), dtype=torch.float32) if key == "step" else weight
        for number, weight in trained.items()
        for key in _MOMENTS
    }
    require_alike(flat, expected, describe_exactly, origin, remedy)
    # Files hold contiguous tensors. The moments need the memory layout of their weights: with another layout,
    # vectorized loops would process the elements in another order, and results would differ by rounding.
    laid_out = {name: torch.empty_like(like).copy_(flat[name]) for name, like in expected.items()}
    return {number: {key: laid_out[f"{number}.{key}"] for key in _MOMENTS} for number in trained}
