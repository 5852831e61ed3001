"""What a run writes down as it goes; of several processes the first speaks for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatvq.files import write_json
from flatvq.train.history import RecordWriter
from flatvq.train.tensorboard import TensorBoardEvents

__all__ = ["Journal"]


class Journal:
    """A run's records and status (docs/records.md).

    Args:
        run: the run folder.
        steps: steps in all.
        silent: write nothing, in every process but the first.
    """

    def __init__(self, run: Path, steps: int, *, silent: bool) -> None:
        self.run, self.steps, self.silent = run, steps, silent
        self._records = None if silent else RecordWriter(run / "records.jsonl")
        self._events: TensorBoardEvents | None = None
        if self._records is not None and self._records.dropped:
            self.record("dropped", step=0, bytes=self._records.dropped)

    def record(self, kind: str, **values: Any) -> None:
        """Append a record."""
        if self._records is not None:
            written = self._records.write(kind, **values)
            if self._events is not None:
                self._events.write(kind, written)

    def status(self, status: str, step: int, error: str | None = None) -> None:
        """Replace the run's status."""
        if not self.silent:
            tree = {"status": status, "step": step, "steps": self.steps, "error": error}
            write_json(self.run / "status.json", tree)

    def mirror_to_tensorboard(self, step: int) -> None:
        """Write events for TensorBoard too, from this step on."""
        if not self.silent:
            self._events = TensorBoardEvents(self.run / "tensorboard", step)

    def sync(self) -> None:
        """Force the records to the disk: those of the steps before a checkpoint must outlast it."""
        if self._records is not None:
            self._records.sync()

    def close(self) -> None:
        """Close the files."""
        if self._records is not None:
            self._records.close()
        if self._events is not None:
            self._events.close()
