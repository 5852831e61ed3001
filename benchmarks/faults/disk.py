"""A small disk in memory that can be filled, and whose folder can become read-only."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

__all__ = ["Disk"]

_CHUNK = bytes(65_536)


class Disk:
    """A tmpfs. It needs root.

    Args:
        folder: where it is mounted; created if it does not exist.
        mebibytes: its size.
    """

    def __init__(self, folder: Path, mebibytes: int = 64) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(folder)], check=True)

    def fill(self) -> None:
        """Fill it to the last byte."""
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(_CHUNK)

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)

    def protect(self) -> None:
        """Make it read-only: a second, read-only mount of it covers the folder.

        The kernel makes no mount read-only with files that are open for writing. So they stay writable here,
        while no file can be opened for writing, made, renamed or removed.
        """
        subprocess.run(["mount", "--bind", str(self.folder), str(self.folder)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(self.folder)], check=True)

    def release(self) -> None:
        """Undo `protect`."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def unmount(self) -> None:
        """Remove it and its files."""
        while self.folder.is_mount():
            self.release()

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"
