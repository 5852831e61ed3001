"""A run's records as TensorBoard events: every number of a record becomes a scalar at its step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flatvq.errors import MissingExtraError

__all__ = ["TensorBoardEvents"]


class TensorBoardEvents:
    """Writes events beside the records.

    Args:
        folder: where the event files go.
        step: the step at which this process starts; what an interrupted one wrote beyond it is hidden.

    Raises:
        MissingExtraError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise MissingExtraError("TensorBoard events", "tensorboard", extra="tensorboard") from None
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Write one record: `train/loss`, `validation/levels/0/usage`, and so on."""
        for name, number in _scalars(kind, values):
            self._writer.add_scalar(name, number, values["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def _scalars(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Flatten a record into named numbers."""
    if isinstance(value, Mapping):
        # The two levels of one event have the same step: the level belongs into the name.
        prefix = f"{name}/{value['level']}" if "level" in value else name
        for key, item in value.items():
            if key not in ("step", "level"):
                yield from _scalars(f"{prefix}/{key}", item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, item in enumerate(value):
            yield from _scalars(f"{name}/{number}", item)
    elif isinstance(value, int | float):
        yield name, value
