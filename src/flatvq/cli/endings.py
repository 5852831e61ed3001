"""Exit codes of commands, and their one-line error messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from flatvq.cli.interrupts import STOPPED
from flatvq.cli.output import BrokenOutputError
from flatvq.translation import explained

__all__ = ["CommandGroup", "exit_code_of"]


class CommandGroup(TyperGroup):
    """The commands. Handles Ctrl-C and operating-system errors.

    Without this, typer exits with code 1 and no message for any broken pipe, including that to the server
    which starts the trials.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(STOPPED) from None
        except OSError as error:
            raise typer.Exit(exit_code_of(error)) from error


def exit_code_of(error: Exception) -> int:
    """Print an error in one line and return the exit code.

    Raises:
        Exception: the error itself, if it is a bug in flatvq.
    """
    known = explained(error)
    if known is None:
        raise error
    if not isinstance(known, BrokenOutputError):
        with suppress(OSError):
            typer.echo(f"flatvq: {known}", err=True)
    return known.exit_code
