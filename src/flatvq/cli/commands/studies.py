"""Commands for studies: `study`, `report` and `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import Engine, Overrides, RecipeName, StudyFolder
from flatvq.cli.folders import default_folder, with_home, writable
from flatvq.cli.interrupts import STOPPED

__all__ = ["pack", "report", "study"]

_STOPPED = "Stopped. The trials wrote checkpoints; run the same command to resume."


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
            help="Train trials again that used other images or another version of flatvq. Their old folders "
            "move to superseded/ in the folder of the study.",
        ),
    ] = False,
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled",
            help="Continue from look to look until the primary comparison is settled or no look is left.",
        ),
    ] = False,
    next_look: Annotated[
        bool,
        typer.Option(
            "--next-look", help="Continue to the next look even if the primary comparison is settled."
        ),
    ] = False,
    on: Engine = "local",
    gpus_per_trial: Annotated[
        int | None, typer.Option(help="GPUs of a trial. Sets cluster.gpus_per_trial.")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(help="Largest number of jobs that run at a time. Sets cluster.max_running.")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="Time limit of a job, such as 4:00:00. Sets cluster.time_limit."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit the jobs of the next look and return.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the jobs of the study and return.")] = False,
) -> None:
    """Train the arms with the seeds of the next look, compare them, and write study.json and report.html.

    A look is a planned number of seeds after which the arms are compared. If the primary comparison is not
    settled at a look, run the same command again to go on to the next one. The same command also resumes an
    interrupted study, and keeps finished trials. It fails if the capacities of the arms do not match, or if a
    finished trial was trained on other images or with another version of flatvq.

    With `--on slurm`, trials run as jobs of a cluster. The jobs continue when this command ends; run it again
    to wait for them.
    """
    from flatvq import processes

    if not dry_run and on == "local":
        processes.serve()  # imports the libraries of the trials while this process does the same
    from flatvq.cli import cluster, tables
    from flatvq.cli.plan_tables import show_plan
    from flatvq.cli.progress import study_progress
    from flatvq.recipe import load_recipe, with_cluster_of_user
    from flatvq.report import write_report
    from flatvq.study import (
        ClusterTrials,
        StudyData,
        StudyStopped,
        estimate_seconds,
        fix_design,
        look_to_run,
        plan_study,
        run_look,
        run_trials,
        seconds_to,
    )

    given = {"gpus_per_trial": gpus_per_trial, "max_running": max_running, "time_limit": time_limit}
    cluster.require_cluster(on, **given, detach=detach, cancel=cancel)
    train = run_trials if on == "local" else ClusterTrials(on, cluster.notice)
    changes = [*(overrides or ()), *cluster.overrides(**given)]
    plan = plan_study(with_cluster_of_user(load_recipe(recipe, changes)), Path(recipe).stem)
    show_plan(plan)
    if dry_run:
        tables.show_estimate(plan, estimate_seconds(plan, plan.recipe.looks[0]))
        return
    folder = writable(out or default_folder("studies", recipe))
    if cancel:
        cluster.cancel(on, plan, folder)
        return
    if on == "local":
        cluster.require_no_jobs(folder, "study")
    data = StudyData(plan)
    if retrain:
        for path in data.set_aside(folder):
            typer.echo(f"Set aside: {path}")
    data.check(folder, "add --retrain to train them again")
    if difference := fix_design(plan, folder):
        typer.echo(difference)
    look = look_to_run(plan, folder, further=next_look)
    if detach:
        cluster.submit(on, plan, folder, data, look)
        return
    while True:
        tables.show_look(plan, look)
        try:
            with study_progress() as show:
                result = run_look(plan, look, folder, data, show, train)
        except StudyStopped:
            typer.echo(cluster.STOPPED if on != "local" else _STOPPED, err=True)
            raise typer.Exit(STOPPED) from None
        tables.show_failures(result.outcomes)
        tables.show_study(result.study)
        typer.echo(f"Report: {write_report(folder)}\nRecord: {folder / 'study.json'}")
        if result.failed:
            raise typer.Exit(1)
        following = result.study.next_look
        if following is None:
            return
        tables.show_next_look(following, seconds_to(plan, result.study, following), until_settled)
        if not until_settled:
            return
        look = following


def report(study: StudyFolder) -> None:
    """Write the report.html of a study again, from its records.

    If the study is not finished, run `flatvq study` again with the same recipe and folder.
    """
    from flatvq.report import write_report

    typer.echo(f"Report: {write_report(study)}")


def pack(
    study: StudyFolder,
    out: Annotated[Path, typer.Argument(callback=with_home, help="Folder of the packed study.")],
) -> None:
    """Copy the records of a study in a compact form, without weights, checkpoints and pictures."""
    from flatvq.study import pack as pack_study

    for path in pack_study(study, out):
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")
