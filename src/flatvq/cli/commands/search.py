"""The command `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import Engine, Overrides, RecipeName
from flatvq.cli.folders import with_home
from flatvq.cli.interrupts import STOPPED
from flatvq.errors import FlatvqError

__all__ = ["tune"]

_STOPPED = "Stopped. The trials wrote checkpoints; run the same command to resume."


def tune(
    recipe: RecipeName,
    arm: Annotated[str, typer.Option(help="The incumbent. Default: the reference arm.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of the search. Default: tunes/RECIPE-ARM."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database that several machines share, such as sqlite:///shared.db. Default: a file in the "
            "folder.",
        ),
    ] = None,
    overrides: Overrides = None,
    on: Engine = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Jobs that search at the same time, with --on. Default: cluster.max_running."
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit the workers and return.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the jobs and return.")] = False,
    worker: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Run the trials of one worker, numbered from 0, in a job of any scheduler. After all "
            "workers have ended, run the command without --worker to confirm the winner.",
        ),
    ] = None,
) -> None:
    """Search the codebook hyper-parameters of an arm at constant bits, and confirm the winner.

    Trials are scored on training images that are set aside; unpromising and collapsed trials are pruned. The
    winner is then compared with the incumbent at full length, on new seeds and the held-out images, and
    written as the recipe tuned.yaml. The section `tune` of the recipe sets the number and the length of the
    trials.

    With `--on slurm`, workers run as jobs of a cluster and share the trials. The jobs continue when this
    command ends; run it again to wait for them.
    """
    from flatvq import processes

    if on == "local":
        processes.serve()
    from flatvq.cli.cluster import STOPPED as STOPPED_WAITING
    from flatvq.cli.cluster import ClusterCommand, require_cluster
    from flatvq.cli.tuning import SearchCommand, search_and_confirm, work
    from flatvq.study import StudyStopped

    require_cluster(on, workers=workers, detach=detach, cancel=cancel)
    if on != "local" and worker is not None:
        raise FlatvqError(f"--worker {worker} and --on {on} are both given", "leave one of them out")
    command = SearchCommand(recipe, arm, out, storage, overrides or ())
    cluster = ClusterCommand(on, detach=detach, cancel=cancel) if on != "local" else None
    try:
        if worker is not None:
            work(command, worker)
            return
        confirmed = search_and_confirm(command, cluster, workers)
    except StudyStopped:
        typer.echo(_STOPPED if on == "local" else STOPPED_WAITING, err=True)
        raise typer.Exit(STOPPED) from None
    if not confirmed:
        raise typer.Exit(1)
