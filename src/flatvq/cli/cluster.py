"""Commands on a cluster (`--on ENGINE`): their options, and submitting, waiting and cancelling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import typer

from flatvq.cli.interrupts import STOPPED as STOPPED_CODE
from flatvq.engines.jobs import has_jobs, require_engine
from flatvq.errors import FlatvqError
from flatvq.study import ClusterTrials, Plan, StudyData, StudyStopped, cancel_jobs
from flatvq.study.scheduler import signals_raise_stopped

__all__ = [
    "STOPPED",
    "ClusterCommand",
    "ClusterWork",
    "cancel",
    "notice",
    "overrides",
    "require_cluster",
    "require_no_jobs",
    "submit",
]

T = TypeVar("T", covariant=True)

STOPPED = "Stopped waiting. The jobs go on: run the same command to wait again, or add --cancel to end them."
"""The message after Ctrl-C."""


def overrides(**given: object) -> list[str]:
    """Return options as overrides of the section `cluster`; options that are None are left out."""
    return [f"cluster.{key}={value}" for key, value in given.items() if value is not None]


def require_cluster(on: str, **options: object) -> None:
    """Refuse options that need a cluster if the command runs on this machine.

    Raises:
        FlatvqError: if such an option is given and the command runs on this machine.
    """
    given = next((name for name, value in options.items() if value is not None and value is not False), None)
    if on == "local" and given:
        raise FlatvqError(f"--{given.replace('_', '-')} needs a cluster", "add --on slurm, or leave it out")


def notice(text: str) -> None:
    """Print a line about the cluster."""
    typer.echo(text, err=True)


def require_no_jobs(folder: Path, what: str) -> None:
    """Refuse to work on this machine in a folder whose jobs on a cluster may not have ended.

    Args:
        folder: the folder.
        what: what it holds, such as `study`.

    Raises:
        FlatvqError: if it has such jobs.
    """
    if has_jobs(folder):
        remedy = "add --on ENGINE to wait for them, or --on ENGINE --cancel to end them"
        raise FlatvqError(f"the {what} '{folder}' has jobs on a cluster", remedy)


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


@dataclass(frozen=True)
class ClusterCommand:
    """The cluster options of a command that runs no study.

    Raises:
        FlatvqError: if there is no such engine.
    """

    kind: str
    """The name of the engine."""
    detach: bool
    """Submit the jobs and return."""
    cancel: bool
    """End the jobs and return."""

    def __post_init__(self) -> None:
        require_engine(self.kind)

    def run(self, work: ClusterWork[T]) -> T | None:
        """Submit, wait for or cancel the jobs of some work, and print messages.

        Returns:
            The result of the work; None if the jobs were only submitted or cancelled.
        """
        if self.cancel:
            typer.echo(f"Cancelled: {work.cancel()} jobs. The same command without --cancel resumes.")
            return None
        if self.detach:
            again = "Run the same command without --detach to wait for them and finish."
            typer.echo(f"Submitted: {work.submit()} jobs. {again}")
            return None
        try:
            with signals_raise_stopped() as raise_again:
                return work.run(_UnitLines(raise_again), notice)
        except StudyStopped:
            typer.echo(STOPPED, err=True)
            raise typer.Exit(STOPPED_CODE) from None


class ClusterWork(Protocol[T]):
    """Work that is divided into jobs."""

    def submit(self) -> int:
        """Submit the missing jobs; return their number."""

    def run(self, watch: Callable[[Counter[str]], None], notice: Callable[[str], None]) -> T:
        """Run all jobs to their end; return the result."""

    def cancel(self) -> int:
        """End all jobs; return their number."""


class _UnitLines:
    """Prints a line when the number of jobs in a state changes, unless the user asked to stop."""

    def __init__(self, raise_if_stopped: Callable[[], None]) -> None:
        self.last = ""
        self.raise_if_stopped = raise_if_stopped

    def __call__(self, counts: Counter[str]) -> None:
        self.raise_if_stopped()
        line = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        if line and line != self.last:
            self.last = line
            typer.echo(f"jobs: {line}", err=True)
