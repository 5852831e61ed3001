"""The command line's reference, as Typer generates it."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["commands"]

_COMMAND = [sys.executable, "-m", "typer", "flatvq.cli.commands", "utils", "docs", "--name", "flatvq"]


def commands() -> str:
    """Return usage, arguments and options of every command, without the title."""
    printed = subprocess.run(_COMMAND, check=True, capture_output=True, text=True).stdout
    return printed.partition("\n")[2].strip()
