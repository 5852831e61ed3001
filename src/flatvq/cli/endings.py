"""Exit codes of commands, and their one-line error messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from flatvq.cli.help import without_types
from flatvq.cli.interrupts import STOPPED
from flatvq.cli.output import BrokenOutputError
from flatvq.cli.usage import one_line_usage_errors
from flatvq.errors import FlatvqError, suggestion
from flatvq.translation import explained

__all__ = ["CommandGroup", "exit_code_of"]


class CommandGroup(TyperGroup):
    """The commands. Handles usage errors, Ctrl-C and operating-system errors.

    Without this class, typer prints usage errors in a box. For any broken pipe, it exits with code 1 and no
    message, even for the pipe to the server that starts the trials.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of `flatvq` itself."""
        return without_types(super().get_params(ctx))

    def make_context(self, info_name: str | None, args: list[str], *others: Any, **extra: Any) -> Any:
        """Parse the options of `flatvq` itself."""
        if not args:  # typer then prints the help
            return super().make_context(info_name, args, *others, **extra)
        with one_line_usage_errors():
            return super().make_context(info_name, args, *others, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise FlatvqError(f"no command is named {name!r}", suggestion(name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of a command and run it."""
        try:
            with one_line_usage_errors():
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
