"""The command line: verbs that parse, call and print. Heavy libraries are imported by the verbs alone."""

from __future__ import annotations

import sys

from flatvq.cli.interrupts import end_at_once, interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line: a mistake of the user is one line on standard error and exit code 2."""
    with interrupts(end_at_once):
        # Here, so that Ctrl-C ends these imports too.
        from flatvq.cli.commands import app
        from flatvq.cli.endings import ending
        from flatvq.cli.output import standard_output

        try:
            with standard_output():
                app()
        except Exception as error:
            sys.exit(ending(error))
