"""The library that counts a program's writes and kills it at one of them, and its control file."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

__all__ = ["Accident", "Killer", "Write", "missing"]

Accident = Literal["all killed", "main killed", "writer killed", "disk full"]
"""Whether all processes of the program are killed, its first one, the one that writes, or writes fail."""

_SOURCE = Path(__file__).with_name("kill_at_write.c")
_ACCIDENTS: tuple[Accident, ...] = get_args(Accident)
# `struct control` of kill_at_write.c
_CONTROL = struct.Struct("<QQIi1024s1024s")


def missing() -> str | None:
    """Return what the library needs and this system does not have; None if it has all."""
    if platform.libc_ver()[0] != "glibc":
        return "Linux with glibc"
    return None if shutil.which("cc") else "a C compiler named cc"


@dataclass(frozen=True)
class Write:
    """A call that changes a file."""

    number: int
    process: int
    call: str
    """`open`, `write`, `fsync`, `rename`, and so on."""
    path: str
    """Relative to the folder of the program; for a rename the new one."""


class Killer:
    """Counts the writes of one program at a time, and kills it at one of them.

    Args:
        root: a folder for the library, its control file and its log.
    """

    def __init__(self, root: Path) -> None:
        library, self._path, self._log = root / "killer.so", root / "control", root / "writes"
        flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-ldl", "-lpthread"]
        subprocess.run(["cc", str(_SOURCE), "-o", str(library), *flags], check=True)
        self._path.write_bytes(bytes(_CONTROL.size))
        with self._path.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), 0)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "KILL_AT_WRITE": str(self._path)}
        """Of the program."""

    def arm(self, folder: Path, at: int = 0, accident: Accident = "all killed") -> None:
        """Count from one again.

        Args:
            folder: whose files count.
            at: number of the call of the accident; 0 lets the program run to its end.
            accident: what happens then.
        """
        self._log.unlink(missing_ok=True)
        names = (os.fsencode(folder.resolve()), os.fsencode(self._log))
        _CONTROL.pack_into(self._control, 0, 0, at, _ACCIDENTS.index(accident), 0, *names)

    def disarm(self) -> None:
        """Stop counting."""
        _CONTROL.pack_into(self._control, 0, 0, 0, 0, 0, b"", b"")

    def writes(self) -> list[Write]:
        """Return the calls so far; the one that was killed at is the last of its process."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        parts = [line.split(" ", 3) for line in lines]
        return [Write(int(number), int(process), call, path[1:]) for number, process, call, path in parts]
