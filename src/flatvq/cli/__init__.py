"""The command line: verbs that parse, call and print. Heavy libraries are imported by the verbs alone."""

from __future__ import annotations

import sys

from flatvq.cli.verbs import app
from flatvq.errors import FlatvqError

__all__ = ["main"]


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except FlatvqError as error:
        print(f"flatvq: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does; there is nobody left to tell.
        sys.exit(0)
