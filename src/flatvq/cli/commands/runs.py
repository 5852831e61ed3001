"""Commands for single runs: `train` and `levels`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flatvq.cli.app import AsJson, Overrides, RunFolder
from flatvq.cli.folders import default_folder, with_home, writable
from flatvq.cli.interrupts import STOPPED
from flatvq.paths import expanded

if TYPE_CHECKING:
    from flatvq.recipe import TrialRecipe

__all__ = ["levels", "train"]


def _valid_seed(seed: int) -> int:
    from flatvq.errors import FlatvqError

    if not 0 <= seed < 2**63:
        raise FlatvqError(f"--seed is {seed}", "give a number from 0 to 2^63 - 1")
    return seed


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, or the folder of a run to resume.")],
    out: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of the run. Default: runs/RECIPE-ARM-SEED."),
    ] = None,
    arm: Annotated[str, typer.Option(help="Arm of the recipe. Default: the first arm.")] = "",
    seed: Annotated[int, typer.Option(callback=_valid_seed, help="Seed of the trial.")] = 0,
    parent: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TOKENIZER",
            help="Start from the weights and the model of this tokenizer: a folder, a pretrained tokenizer "
            "such as flatvq-f4, or a repository OWNER/NAME on the Hugging Face hub.",
        ),
    ] = "",
    overrides: Overrides = None,
) -> None:
    """Train one arm with one seed, evaluate it, and save the tokenizer.

    Run the same command again to resume a run that was stopped or killed; it ends with bit-identical weights.
    Under `torchrun --nproc-per-node N -m flatvq train ...`, N processes share each batch. A run may
    resume with another N; its results then differ by rounding.
    """
    from flatvq.cli.progress import task_progress
    from flatvq.cli.tables import show_metrics
    from flatvq.recipe import load_trial
    from flatvq.records import read_metrics
    from flatvq.train import run_trial
    from flatvq.train.launch import launch_of

    if _is_run(recipe):
        _require_no_changes(arm, parent, overrides)
        folder = expanded(recipe)
        trial = load_trial(folder)
    else:
        trial = _trial_recipe(recipe, arm, seed, overrides or ())
        if parent:
            trial = _fine_tuning(trial, parent, overrides or ())
        folder = writable(out or default_folder("runs", recipe, trial.arm, str(seed)))
    with task_progress(f"{trial.arm} seed {trial.seed}", trial.train.steps) as progress:
        finished = run_trial(
            trial, folder, progress=progress, notice=lambda text: typer.echo(f"{folder}: {text}", err=True)
        )
    if not finished:
        typer.echo(f"Stopped after a checkpoint. Run `flatvq train {folder}` to resume.", err=True)
        raise typer.Exit(STOPPED)
    # Under torchrun, only rank 0 prints.
    if launch_of(os.environ).rank == 0:
        show_metrics(read_metrics(folder).model_dump(exclude={"measured_on"}), folder)


def levels(
    run: RunFolder,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99_999_999,
            help="Training steps of each decoder and network. Default: the steps of the run.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what each level of a hierarchy contributes, and write levels.json into the folder of the run.

    For each level: replace its codes and measure the loss of PSNR; train decoders again with and without it;
    estimate with small networks how many of its bits the level below predicts; and compare the PSNR per bit
    with the single-level arm of the same study, if there is one. This takes about as long as the training of
    the run.
    """
    from flatvq.cli.levels import show_levels
    from flatvq.cli.progress import task_progress
    from flatvq.levels import examine

    with task_progress(f"levels of {run.name}") as progress:
        result = examine(run, steps=steps, progress=progress)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        show_levels(result, run)


def _trial_recipe(name: str, arm: str, seed: int, overrides: Sequence[str]) -> TrialRecipe:
    from flatvq.recipe import load_recipe
    from flatvq.study import planned_trial

    return planned_trial(load_recipe(name, overrides), arm, seed)


def _is_run(name: str) -> bool:
    """Return whether an argument is the folder of a run, and not a recipe."""
    from flatvq.errors import FlatvqError
    from flatvq.recipe import shipped_recipes

    folder = expanded(name)
    if (folder / "recipe.json").is_file():
        return True
    if folder.is_dir() and name not in shipped_recipes():
        what = f"{name!r} is a folder without recipe.json"
        raise FlatvqError(what, "give the folder of a run, or a recipe")
    return False


def _fine_tuning(trial: TrialRecipe, parent: str, overrides: Sequence[str]) -> TrialRecipe:
    from flatvq.errors import FlatvqError
    from flatvq.train.parent import with_parent

    for override in overrides:
        if override.startswith("model."):
            what = f"--set {override} changes the model, which --from takes from '{parent}'"
            raise FlatvqError(what, "leave out one of them")
    return with_parent(trial, parent)


def _require_no_changes(arm: str, parent: str, overrides: list[str] | None) -> None:
    from flatvq.errors import FlatvqError

    if arm or parent or overrides:
        what = "a resumed run keeps its recipe; --arm, --from and --set cannot change it"
        raise FlatvqError(what, "leave them out, or name the recipe and a new --out")
