"""Writes the records of a run as TensorBoard events: each number becomes a scalar at its step."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flatvq.appended import AppendedFile
from flatvq.errors import MissingExtraError

__all__ = ["TensorBoardEvents"]


class TensorBoardEvents:
    """Writes TensorBoard events in the calling thread, so that an error is raised at once.

    Args:
        folder: the folder for the event files.
        step: the step at which this process starts. TensorBoard hides later events of earlier processes.

    Raises:
        MissingExtraError: if TensorBoard is not installed.
        OSError: if the file cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError:
            raise MissingExtraError("TensorBoard events", "tensorboard", extra="tensorboard") from None
        self._event, self._summary = Event, Summary
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files of a run in the order of their names, so the name starts with the time.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = AppendedFile(folder / name)
        self._records = RecordWriter(self._file)
        self._append(file_version="brain.Event:2")
        self._append(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Write one record as scalars, such as `train/loss` and `validation/levels/0/usage`.

        Args:
            kind: the kind of the record.
            values: its other keys and values.
        """
        scalars = [self._summary.Value(tag=name, simple_value=x) for name, x in _scalars(kind, values)]
        self._append(step=values["step"], summary=self._summary(value=scalars))

    def close(self) -> None:
        """Close the event file."""
        self._file.close()

    def _append(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())


def _scalars(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Flatten a record into names and numbers."""
    if isinstance(value, Mapping):
        # Records of several levels can have the same kind and step, so the name contains the level.
        prefix = f"{name}/{value['level']}" if "level" in value else name
        for key, item in value.items():
            if key not in ("step", "level"):
                yield from _scalars(f"{prefix}/{key}", item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, item in enumerate(value):
            yield from _scalars(f"{name}/{number}", item)
    elif isinstance(value, int | float):
        yield name, value
