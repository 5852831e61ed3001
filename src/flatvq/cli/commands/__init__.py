"""The commands, one module per group. Importing this package adds them to the application.

Heavy libraries are imported inside the commands, so that `flatvq --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable

from flatvq.cli.app import app
from flatvq.cli.help import Command
from flatvq.registry import Registry

__all__ = ["COMMANDS", "app"]

_HERE = "flatvq.cli.commands"

COMMANDS: Registry[Callable[..., None]] = Registry(
    "command",
    "flatvq.commands",
    {
        "study": f"{_HERE}.studies:study",
        "status": f"{_HERE}.status:status",
        "report": f"{_HERE}.studies:report",
        "pack": f"{_HERE}.studies:pack",
        "train": f"{_HERE}.runs:train",
        "evaluate": f"{_HERE}.evaluation:evaluate",
        "levels": f"{_HERE}.runs:levels",
        "encode": f"{_HERE}.codes:encode",
        "decode": f"{_HERE}.codes:decode",
        "compress": f"{_HERE}.compression:compress",
        "decompress": f"{_HERE}.compression:decompress",
        "inspect": f"{_HERE}.compression:inspect",
        "prior": f"{_HERE}.compression:prior",
        "export": f"{_HERE}.exports:export",
        "doctor": f"{_HERE}.health:doctor",
        "tune": f"{_HERE}.search:tune",
        "capacity": f"{_HERE}.recipes:capacity",
        "recipes": f"{_HERE}.recipes:recipes",
    },
)
"""The commands by name, in the order of `flatvq --help`: functions whose parameters `typer` reads."""

for _name, _command in COMMANDS.items():
    app.command(_name, cls=Command)(_command)
