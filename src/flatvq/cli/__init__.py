"""The command line. Commands parse arguments, call the package and print the result."""

from __future__ import annotations

import sys

from flatvq.cli.interrupts import exit_at_once, interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line. Invalid input is one line on standard error and exit code 2."""
    with interrupts(exit_at_once):
        # Imported here so that Ctrl-C also ends these imports.
        from flatvq.cli.endings import exit_code_of
        from flatvq.cli.output import standard_output

        try:
            from flatvq.cli.commands import app

            with standard_output():
                app(prog_name="flatvq")
        except Exception as error:
            sys.exit(exit_code_of(error))
