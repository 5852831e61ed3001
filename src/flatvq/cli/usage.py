"""Usage errors of the command line, such as an unknown option, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from flatvq.errors import FlatvqError, suggestion

__all__ = ["one_line_usage_errors"]

# Characters of a value that a message shows.
_MAX_VALUE = 60
# typer uses the click package, or a copy of it inside typer, and exports only this subclass.
_UsageError: Any = typer.BadParameter.__mro__[1]


@contextmanager
def one_line_usage_errors() -> Iterator[None]:
    """Convert usage errors of typer into one-line errors that name the value.

    Raises:
        FlatvqError: in place of a usage error.
    """
    try:
        yield
    except _UsageError as error:
        raise _explained(error) from error


def _explained(error: Any) -> FlatvqError:
    context = error.ctx
    if hasattr(error, "possibilities"):  # an unknown option
        options = [name for parameter in context.command.params for name in parameter.opts if "--" in name]
        what = f"no option is named {error.option_name!r}"
        return FlatvqError(what, suggestion(error.option_name, [*options, "--help"]))
    # typer validates numbers with pydantic. The message of the error does not name the value.
    details = getattr(error.__cause__, "errors", None)
    if details and error.param is not None:
        detail = details()[0]
        message = "write a whole number" if detail["type"].startswith("int_") else detail["msg"]
        value = str(detail["input"])
        shown = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}..."
        return FlatvqError(f"{error.param.opts[0]} is {shown}", message[0].lower() + message[1:])
    text, command = error.format_message().rstrip("."), context.command_path if context else "flatvq"
    return FlatvqError(text[0].lower() + text[1:], f"see `{command} --help`")
