"""`flatvq study --on ENGINE`: the options of a cluster, and submitting, waiting and cancelling."""

from __future__ import annotations

from pathlib import Path

import typer

from flatvq.errors import FlatvqError
from flatvq.study import ClusterTrials, Plan, StudyData, cancel_jobs

__all__ = ["STOPPED", "cancel", "overrides", "require_cluster", "submit"]


STOPPED = "Stopped waiting. The jobs go on: run the same command to wait again, or add --cancel to end them."
"""The message after Ctrl-C."""


def overrides(**given: object) -> list[str]:
    """Return options as overrides of the section `cluster`; those that are None are left out."""
    return [f"cluster.{key}={value}" for key, value in given.items() if value is not None]


def require_cluster(on: str, **options: object) -> None:
    """Refuse options of a cluster without one.

    Raises:
        FlatvqError: if such an option is given and trials run on this machine.
    """
    given = next((name for name, value in options.items() if value is not None and value is not False), None)
    if on == "local" and given:
        raise FlatvqError(f"--{given.replace('_', '-')} needs a cluster", "add --on slurm, or leave it out")


def submit(kind: str, plan: Plan, folder: Path, data: StudyData, look: int) -> None:
    """Submit the trials of a look, and say what follows."""
    new, before = ClusterTrials(kind).submit(plan, folder, data, look)
    typer.echo(
        f"Submitted: {new} trials; {before} had a job before. `flatvq status {folder}` shows them. "
        "Run the same command without --detach to wait for them and write study.json."
    )


def cancel(kind: str, plan: Plan, folder: Path) -> None:
    """End the jobs of a study, and say how many."""
    count = cancel_jobs(kind, plan, folder)
    typer.echo(
        f"Cancelled: {count} trials. They wrote checkpoints; the same command without --cancel resumes."
    )
