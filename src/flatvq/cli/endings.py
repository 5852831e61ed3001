"""How a command ends: the exit code, and the one line for the user where it ends with an error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from flatvq.cli.interrupts import STOPPED
from flatvq.cli.output import UnreadError
from flatvq.translation import explained

__all__ = ["Verbs", "ending"]


class Verbs(TyperGroup):
    """The command line's verbs. Ctrl-C and errors of the system are handled here.

    typer would end with code 1 and no message wherever a pipe breaks, such as that to the trials' server.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(STOPPED) from None
        except OSError as error:
            raise typer.Exit(ending(error)) from error


def ending(error: Exception) -> int:
    """Print an error in one line.

    Returns:
        The exit code.

    Raises:
        Exception: the error itself, if only a fault in flatvq explains it.
    """
    known = explained(error)
    if known is None:
        raise error
    if not isinstance(known, UnreadError):
        with suppress(OSError):
            typer.echo(f"flatvq: {known}", err=True)
    return known.exit_code
