"""The command `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flatvq.cli.app import Overrides, RecipeName
from flatvq.cli.folders import with_home
from flatvq.cli.interrupts import STOPPED

__all__ = ["tune"]


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
) -> None:
    """Search the codebook hyper-parameters of an arm at constant bits, and confirm the winner.

    Trials are scored on training images that are set aside; unpromising and collapsed trials are pruned. The
    winner is then compared with the incumbent at full length, on new seeds and the held-out images, and
    written as the recipe tuned.yaml. The section `tune` of the recipe sets the number and the length of the
    trials.
    """
    from flatvq import processes

    processes.serve()
    from flatvq.cli.tuning import search_and_confirm
    from flatvq.study import StudyStopped

    try:
        confirmed = search_and_confirm(recipe, arm, out, storage, overrides or ())
    except StudyStopped:
        typer.echo("Stopped. The trials wrote checkpoints; run the same command to resume.", err=True)
        raise typer.Exit(STOPPED) from None
    if not confirmed:
        raise typer.Exit(1)
