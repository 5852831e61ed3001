"""Commands for studies: `study`, `report` and `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import Overrides, RecipeName, StudyFolder
from flatvq.cli.folders import default_folder, with_home, writable
from flatvq.cli.interrupts import STOPPED

__all__ = ["pack", "report", "study"]


def study(
    recipe: RecipeName,
    out: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of the study. Default: studies/RECIPE."),
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan, the capacities and the estimated time; do not train."
        ),
    ] = False,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Train trials again that were trained on other images or with another version of flatvq. "
            "Their folders are set aside, not deleted.",
        ),
    ] = False,
) -> None:
    """Train all arms with all seeds, compare them, and write study.json and report.html.

    Run the same command again to resume an interrupted study; finished trials are kept. The command fails if
    the capacities of the arms do not match, or if a finished trial was trained on other images or with
    another version of flatvq.
    """
    from flatvq import processes

    if not dry_run:
        processes.serve()  # imports the libraries of the trials while this process does the same
    from flatvq.cli import tables
    from flatvq.cli.progress import study_progress
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
        with study_progress(plan) as show:
            outcomes = run_trials(plan, folder, data, show)
    except StudyStopped:
        typer.echo("Stopped. The trials wrote checkpoints; run the same command to resume.", err=True)
        raise typer.Exit(STOPPED) from None
    # Failures are printed first, because writing the study fails too if the disk is full.
    tables.show_failures(outcomes)
    tables.show_study(write_study(plan, outcomes, data, folder))
    typer.echo(f"Report: {write_report(folder)}\nRecord: {folder / 'study.json'}")
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def report(study: StudyFolder) -> None:
    """Write the report.html of a study again, from its records."""
    from flatvq.report import write_report

    typer.echo(f"Report: {write_report(study)}")


def pack(
    study: StudyFolder,
    out: Annotated[Path, typer.Argument(callback=with_home, help="Folder of the packed study.")],
) -> None:
    """Copy the records of a study in a compact form, without weights, checkpoints and pictures."""
    from flatvq.study import pack as pack_study

    for path in pack_study(study, writable(out)):
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")
