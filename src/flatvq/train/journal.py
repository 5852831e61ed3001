"""Writes the records and the status of a run. Only rank 0 writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from flatvq.files import write_json
from flatvq.records import Status
from flatvq.train.history import RecordWriter
from flatvq.train.tensorboard import TensorBoardEvents

__all__ = ["Journal", "RunStatus"]

RunStatus = Literal["running", "stopped", "done", "failed"]


class Journal:
    """Writes the records and the status of a run (docs/records.md).

    Args:
        run: the folder of the run.
        steps: the total number of steps.
        silent: whether to write nothing, as on every rank but 0.
    """

    def __init__(self, run: Path, steps: int, *, silent: bool) -> None:
        self.run, self.steps, self.silent = run, steps, silent
        self._records = None if silent else RecordWriter(run / "records.jsonl")
        self._events: TensorBoardEvents | None = None
        if self._records is not None and self._records.dropped:
            self.record("dropped", step=0, bytes=self._records.dropped)

    def record(self, kind: str, **values: Any) -> None:
        """Append a record.

        Args:
            kind: the kind of the record.
            values: its other keys and values.
        """
        if self._records is not None:
            written = self._records.write(kind, **values)
            if self._events is not None:
                self._events.write(kind, written)

    def status(self, status: RunStatus, step: int, error: str | None = None) -> None:
        """Replace the status of the run.

        Args:
            status: the new status.
            step: the number of steps done.
            error: why the run failed.
        """
        if not self.silent:
            record = Status(status=status, step=step, steps=self.steps, error=error)
            write_json(self.run / "status.json", record.model_dump(mode="json"))

    def mirror_to_tensorboard(self, step: int) -> None:
        """Also write the records as TensorBoard events, from this step on."""
        if not self.silent:
            self._events = TensorBoardEvents(self.run / "tensorboard", step)

    def sync(self) -> None:
        """Force the records to the disk.

        Call it before writing a checkpoint, so that no checkpoint exists without the records of its steps.
        """
        if self._records is not None:
            self._records.sync()

    def close(self) -> None:
        """Close the files."""
        if self._records is not None:
            self._records.close()
        if self._events is not None:
            self._events.close()
