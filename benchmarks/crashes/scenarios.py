"""The commands of the matrix, small enough to run in about a second."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.crashes.killer import Accident
from benchmarks.crashes.programs import OUTPUT, Program

__all__ = ["SCENARIOS", "Scenario", "write_images"]

_TRAIN: dict[str, Any] = {
    "steps": 6,
    "batch_size": 2,
    "validate_every": 3,
    "checkpoint_every": 2,
    "record_every": 1,
    "precision": "float32",
    "compile": "never",
}
_RECIPE: dict[str, Any] = {
    "data": {"source": "folder", "crop": 16, "validation_share": 0.25},
    "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 8, "code_dim": 2}]},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 2}},
    "train": _TRAIN,
    "evaluate": {"samples": 1},
}
_STUDY = {
    "arms": {"plain": {}, "other": {"codebook": {"replacement": {"every": 3}}}},
    "seeds": [0],
    "workers": 2,
}
_TUNE = {
    "train": {**_TRAIN, "steps": 4},
    "tune": {
        "trials": 2,
        "set_aside": 0.3,
        "confirm_seeds": [7, 8],
        "space": {"train.learning_rate": {"low": 0.0001, "high": 0.01, "log": True}},
    },
    "workers": 2,
}
_TWO_LEVELS = {
    "model": {
        **_RECIPE["model"],
        "levels": [{"downsample": factor, "codebook_size": 8, "code_dim": 2} for factor in (4, 2)],
    }
}


@dataclass(frozen=True)
class Scenario:
    """A command that is disturbed and run again.

    Attributes:
        name: of the command.
        arguments: after `flatvq`; the recipe is recipe.yaml and the command writes below `out`.
        changes: of the recipe.
        before: arguments of what has to be done before.
        kills: the processes that may be killed.
        times: whether all bytes have to be the same, times included.
    """

    name: str
    arguments: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    kills: tuple[Accident, ...] = ("all killed",)
    times: bool = False

    def prepare(self, folder: Path, images: Path, program: Program) -> None:
        """Make the folder that each instant starts with a copy of.

        Raises:
            RuntimeError: if what has to be done before fails.
        """
        folder.mkdir()
        recipe = {**_RECIPE, **self.changes, "data": {**_RECIPE["data"], "path": str(images)}}
        (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        if self.before and program(self.before, folder):
            raise RuntimeError((folder / OUTPUT).read_text(encoding="utf-8"))


_OUT = ("recipe.yaml", "--out", "out")
_ALL = (
    Scenario("train", ("train", *_OUT), {"train": {**_TRAIN, "tensorboard": True}}),
    Scenario("study", ("study", *_OUT), _STUDY, kills=("all killed", "main killed", "writer killed")),
    # A trial whose process alone is killed is a failed trial of the search, which continues with others.
    Scenario("tune", ("tune", *_OUT), _TUNE, kills=("all killed", "main killed")),
    Scenario("report", ("report", "out"), _STUDY, before=("study", *_OUT), times=True),
    Scenario(
        "pack",
        ("pack", "study", "out"),
        _STUDY,
        before=("study", "recipe.yaml", "--out", "study"),
        times=True,
    ),
    Scenario("levels", ("levels", "out", "--steps", "1"), _TWO_LEVELS, before=("train", *_OUT), times=True),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}


def write_images(folder: Path, count: int = 12, side: int = 24) -> None:
    """Make images of smooth colours with grain."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:side, 0:side] / side
    for number in range(count):
        waves = [np.sin(6 * (a * rows + b * columns) + c) for a, b, c in random.uniform(-3, 3, (3, 3))]
        picture = 128 + 80 * np.stack(waves, axis=-1) + random.normal(0, 8, (side, side, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
