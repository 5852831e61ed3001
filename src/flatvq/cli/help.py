"""Help pages that omit the types of flags and arguments, and write arguments in capitals."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["Command", "usage_in_capitals", "without_types"]


class Command(TyperCommand):
    """A command whose help page shows no types of flags and arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options."""
        return without_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return usage_in_capitals(super().collect_usage_pieces(ctx))


def without_types(parameters: list[Any]) -> list[Any]:
    """Let typer print no type for flags (`--json <bool>`) and arguments (`recipes <list[str]>`).

    Args:
        parameters: the parameters of a command, which are changed.
    """
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None  # typer has no setting for it
        elif parameter.is_flag:
            parameter.metavar = ""
    return parameters


def usage_in_capitals(pieces: list[str]) -> list[str]:
    """Write arguments of a usage line as `RECIPE` and `[NAME]`, where typer writes `{recipe}` and `[name]`.

    Example:
        >>> usage_in_capitals(["[OPTIONS]", "{recipes}...", "[name]"])
        ['[OPTIONS]', 'RECIPES...', '[NAME]']
    """
    return [piece.replace("{", "").replace("}", "").upper() for piece in pieces]
