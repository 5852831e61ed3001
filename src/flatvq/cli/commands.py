"""The verbs: study, train, evaluate, tune, levels, capacity, report, pack, recipes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flatvq import __version__
from flatvq.cli.endings import Verbs
from flatvq.cli.folders import as_given, default_folder, writable
from flatvq.cli.interrupts import STOPPED
from flatvq.paths import expanded

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Does a hierarchical VQ-VAE reconstruct better than a single-level one of the same budget, once no
    codebook collapses? flatvq trains both, matched, over several seeds, and says what the figures say.

    Start with `flatvq study photographs`.""",
    epilog="Exit codes: 0 done, 1 a trial failed, 2 a mistake in what was given, 74 a full or broken disk, "
    "130 stopped (run again).",
)

RecipeName = Annotated[str, typer.Argument(help="A shipped recipe (see `flatvq recipes`) or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.steps=2000. Repeatable."),
]
# As for data.crop and data.resize.
_LONGEST_SIDE = 65_536


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"flatvq {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options of `flatvq` itself; its help is that of `app`."""


@app.command()
def study(
    recipe: RecipeName,
    out: Annotated[
        Path | None,
        typer.Option(callback=as_given, help="Folder of the study; studies/RECIPE if not given."),
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print plan, capacities and an estimate of the time; train nothing."),
    ] = False,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Train trials again that began with other images or another flatvq; nothing is deleted.",
        ),
    ] = False,
) -> None:
    """Train every arm with every seed, compare, and write study.json and report.html.

    Finished trials are kept: after an interruption, the same command goes on where it was. A study whose arms
    do not match is refused, and so is one with trials that began with other images or another flatvq.
    """
    from flatvq import processes

    if not dry_run:
        processes.serve()  # it imports what the trials need while this process does the same
    from flatvq.cli import tables
    from flatvq.cli.progress import watching
    from flatvq.recipe import load_recipe
    from flatvq.report import write_report
    from flatvq.study import StudyData, StudyStopped, estimate_seconds, plan_study, run_trials, write_study

    plan = plan_study(load_recipe(recipe, overrides or ()), Path(recipe).stem)
    tables.show_plan(plan)
    if dry_run:
        tables.show_estimate(estimate_seconds(plan))
        return
    folder = writable(out or default_folder("studies", recipe))
    data = StudyData(plan)
    if retrain:
        for path in data.set_aside(folder):
            typer.echo(f"Set aside: {path}")
    data.check(folder, "add --retrain to train them again")
    try:
        with watching(plan) as watch:
            outcomes = run_trials(plan, folder, data, watch)
    except StudyStopped:
        typer.echo("Stopped; the trials wrote checkpoints. The same command goes on from there.", err=True)
        raise typer.Exit(STOPPED) from None
    # Before anything is written: on a full disk that fails, too.
    tables.show_failures(outcomes)
    tables.show_study(write_study(plan, outcomes, data, folder))
    typer.echo(f"Report: {write_report(folder)}\nRecord: {folder / 'study.json'}")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, or the folder of a run to go on with.")],
    out: Annotated[
        Path | None,
        typer.Option(callback=as_given, help="Folder of the run; runs/RECIPE-ARM-SEED if not given."),
    ] = None,
    arm: Annotated[str, typer.Option(help="Arm of the recipe; the first if not given.")] = "",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The trial's seed.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Train one arm with one seed, evaluate it, and save the tokenizer.

    Killed or stopped at any instant, the same command goes on and ends with the very same weights. Under
    `torchrun --nproc-per-node N -m flatvq train ...` the batch is shared by N processes.
    """
    from flatvq.cli.progress import steps
    from flatvq.recipe import load_trial
    from flatvq.records import read_metrics
    from flatvq.train import run_trial
    from flatvq.train.launch import launch_of

    if (expanded(recipe) / "recipe.json").is_file():
        _refuse_changes(arm, overrides)
        folder = expanded(recipe)
        trial = load_trial(folder)
    else:
        trial = _trial(recipe, arm, seed, overrides or ())
        folder = writable(out or default_folder("runs", recipe, trial.arm, str(seed)))
    with steps(f"{trial.arm} seed {trial.seed}", trial.train.steps) as progress:
        done = run_trial(trial, folder, progress=progress)
    if not done:
        typer.echo(f"Stopped after a checkpoint. `flatvq train {folder}` goes on from there.", err=True)
        raise typer.Exit(STOPPED)
    # Under torchrun every process comes here; one of them tells.
    if launch_of(os.environ).rank == 0:
        _show_metrics(read_metrics(folder).model_dump(exclude={"measured_on"}), folder)


@app.command()
def evaluate(
    run: Annotated[
        Path, typer.Argument(callback=as_given, help="Folder of a finished run, or of a saved tokenizer.")
    ],
    data: Annotated[Path, typer.Option(callback=as_given, help="Any folder of images.")],
    crop: Annotated[
        int | None,
        typer.Option(min=16, max=_LONGEST_SIDE, help="Side of centre crops; the run's if not given."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Whole images instead of crops.")] = False,
    resize: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LONGEST_SIDE,
            help="Scale the shorter side to this first; otherwise as in the run, or not at all with --full.",
        ),
    ] = None,
    white_level: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="White in files of more than 8 bits a sample that do not state it, such as 4095; "
            "0 for the largest of 16 bits; the run's if not given.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            callback=as_given, help="Folder with published weights, for LPIPS and rFID (docs/concepts.md)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a finished run on any folder of images: PSNR, SSIM, MS-SSIM, usage, perplexity, bits."""
    from flatvq.evaluate import evaluate_folder
    from flatvq.model import load_tokenizer
    from flatvq.recipe import DataRecipe, load_trial

    trained = load_trial(run).data if (run / "recipe.json").exists() else DataRecipe(crop=256)
    tokenizer = run / "model" if (run / "model").is_dir() else run
    model = load_tokenizer(tokenizer)
    size = None if full else crop or trained.crop
    # Whole images are measured as they are, crops as the run cut them.
    scale = (0 if full else trained.resize) if resize is None else resize
    white = trained.white_level if white_level is None else white_level
    measured = evaluate_folder(
        model, data, crop=size, resize=scale, white_level=white, weights=weights, tokenizer=tokenizer
    )
    found = {"run": str(run), **measured}
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show_metrics(found, run)


@app.command()
def tune(
    recipe: RecipeName,
    arm: Annotated[str, typer.Option(help="The incumbent; the reference arm if not given.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(callback=as_given, help="Folder of the search; tunes/RECIPE-ARM if not given."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of a database that several machines share; a file in the folder if not given."
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Search an arm's codebook hyper-parameters under its bits, and confirm the winner before it is believed.

    Trials are judged by training images that are set aside; unpromising and collapsed trials are pruned
    early. The winner then meets the incumbent at full length, on fresh seeds and the held-out images, and is
    written out as a recipe, tuned.yaml. The recipe's section `tune` says how much of what.
    """
    from flatvq import processes

    processes.serve()
    from flatvq.cli.tuning import tuned
    from flatvq.study import StudyStopped

    try:
        failed = tuned(recipe, arm, out, storage, overrides or ())
    except StudyStopped:
        typer.echo("Stopped; the trials wrote checkpoints. The same command goes on from there.", err=True)
        raise typer.Exit(STOPPED) from None
    if failed:
        raise typer.Exit(1)


@app.command()
def levels(
    run: Annotated[Path, typer.Argument(callback=as_given, help="Folder of a finished run of a hierarchy.")],
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99_999_999,
            help="Steps of each decoder and network; the run's own number if not given.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask what each level of a hierarchy contributes, and write levels.json into the run's folder.

    Its codes are replaced; decoders are trained anew with and without it; small networks estimate how much of
    it the level below already tells; its bits are weighed against the same bits on one level, if the run's
    study has such an arm. This takes about as long as the training did.
    """
    from flatvq.cli.levels import show_levels
    from flatvq.cli.progress import steps as stepping
    from flatvq.levels import examine

    with stepping(f"levels of {run.name}") as progress:
        found = examine(run, steps=steps, progress=progress)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show_levels(found, run)


@app.command()
def capacity(
    recipes: Annotated[list[str], typer.Argument(help="Recipes, shipped or files.")],
    size: Annotated[
        int | None,
        typer.Option(min=1, max=_LONGEST_SIDE, help="Side of the image; the recipe's crop if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print bits, parameters and multiply-adds of every arm side by side, with what the matching left."""
    from flatvq.cli import tables
    from flatvq.recipe import load_recipe
    from flatvq.study import planned_arms

    arms = {name: planned_arms(load_recipe(name), size) for name in recipes}
    if as_json:
        typer.echo(json.dumps({name: [arm.to_dict() for arm in found] for name, found in arms.items()}))
    else:
        for name, found in arms.items():
            tables.show_capacity(name, found)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(callback=as_given, help="Folder of a study.")],
) -> None:
    """Write a study's report.html again from its records."""
    from flatvq.report import write_report

    typer.echo(f"Report: {write_report(study)}")


@app.command()
def pack(
    study: Annotated[Path, typer.Argument(callback=as_given, help="Folder of a finished study.")],
    out: Annotated[Path, typer.Argument(callback=as_given, help="Folder for what is packed.")],
) -> None:
    """Copy a study's records, small enough to commit: no weights, checkpoints or pictures."""
    from flatvq.study import pack as packed

    for path in packed(study, writable(out)):
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")


@app.command()
def recipes(
    name: Annotated[str, typer.Argument(help="Print this recipe.")] = "",
    fields: Annotated[bool, typer.Option("--fields", help="Explain every key a recipe may have.")] = False,
) -> None:
    """List the recipes that ship with flatvq, print one, or explain the keys."""
    from flatvq.cli import tables
    from flatvq.recipe import recipe_text, shipped_recipes

    if fields:
        tables.show_fields()
    elif name:
        typer.echo(recipe_text(name), nl=False)
    else:
        tables.show_recipes(shipped_recipes())


def _trial(name: str, arm: str, seed: int, overrides: list[str] | tuple[()]) -> Any:
    from flatvq.recipe import load_recipe
    from flatvq.study import planned_trial

    return planned_trial(load_recipe(name, overrides), arm, seed)


def _refuse_changes(arm: str, overrides: list[str] | None) -> None:
    from flatvq.errors import FlatvqError

    if arm or overrides:
        what = "a run that goes on keeps its recipe; --arm and --set cannot change it"
        raise FlatvqError(what, "leave them out, or name the recipe and a new --out")


def _show_metrics(metrics: dict[str, Any], folder: Path) -> None:
    from flatvq.cli import tables

    tables.show_metrics(metrics, folder)
