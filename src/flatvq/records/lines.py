"""`records.jsonl`: the log of a run, one JSON object per line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from flatvq.errors import FlatvqError
from flatvq.recipe.strict_json import load_json
from flatvq.records.reading import Decibels, Number, Record, Several, Share, Step, check_record, read_file

__all__ = [
    "JsonLines",
    "Row",
    "Validation",
    "load_jsonl",
    "parse_row",
    "precision_of",
    "read_jsonl",
    "read_rows",
    "seconds_per_step",
]

_REMEDY = "remove this line"


class Row(Record):
    """A line of `records.jsonl`. Each kind has further keys with numbers, strings or booleans."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | str | bool | None]

    kind: str
    step: Step
    level: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    levels: Several[dict[str, Number | None]] = ()
    psnr_db: Decibels | None = None
    images_per_second: Annotated[float, Field(ge=1e-9, le=1e12)] | None = None


class ValidationLevel(Record):
    """Use of one codebook on the validation crops."""

    perplexity: Number
    usage: Share | None = None
    quantization_error: Number | None = None


class Validation(Record):
    """A line of kind `validation`: metrics on held-out crops during training."""

    step: Step
    psnr_db: Decibels
    levels: Several[ValidationLevel]


@dataclass(frozen=True)
class JsonLines:
    """The objects of a JSON-lines file, and whether an incomplete last line was dropped."""

    rows: list[dict[str, Any]]
    truncated: bool


def read_rows(path: Path) -> JsonLines:
    """Read the `records.jsonl` of a run. An incomplete last line, which a killed run can leave, is dropped.

    Args:
        path: the file.

    Returns:
        The lines in the order of the file, each valid as a `Row`.

    Raises:
        FlatvqError: if the file cannot be read, or a line before the last is damaged.
    """
    lines = load_jsonl(path)
    for number, row in enumerate(lines.rows, start=1):
        check_record(Row, row, f"record {number} of {str(path)!r}", _REMEDY)
    return lines


def seconds_per_step(run: Path, batch_size: int) -> float | None:
    """Return the time of a training step: the median over the `train` lines of a run.

    A line has the mean speed since the line before it. Validations and checkpoints are not part of it.

    Args:
        run: folder of the run.
        batch_size: images per step.

    Returns:
        Seconds; None if the run has no such lines.

    Raises:
        FlatvqError: if `records.jsonl` is damaged.
    """
    path = run / "records.jsonl"
    rows = read_rows(path).rows if path.is_file() else []
    speeds = [row.get("images_per_second") for row in rows if row["kind"] == "train"]
    return median(batch_size / speed for speed in speeds if speed is not None) if any(speeds) else None


def precision_of(run: Path) -> str | None:
    """Return the number format in which a run computed its forward passes.

    Steps that a later start computed again do not count.

    Args:
        run: folder of the run.

    Returns:
        `float32` or `bfloat16`. If the run resumed in another format, both in the order of use, such as
        `float32, bfloat16`. None if the run does not record it.

    Raises:
        FlatvqError: if `records.jsonl` is damaged.
    """
    path = run / "records.jsonl"
    rows = read_rows(path).rows if path.is_file() else []
    end = max((row["step"] for row in rows), default=0)
    used: list[Any] = []
    for start in reversed([row for row in rows if row["kind"] == "start"]):
        if start["step"] < end:
            end = start["step"]
            used.append(start.get("precision"))
    return ", ".join(dict.fromkeys(str(name) for name in reversed(used) if name)) or None


def parse_row(line: bytes) -> dict[str, Any]:
    """Parse one line of `records.jsonl`.

    Raises:
        FlatvqError: if the line is damaged.
    """
    row = _object(line, "the record")
    check_record(Row, row, "the record", _REMEDY)
    return row


def load_jsonl(path: str | Path) -> JsonLines:
    """Read a JSON-lines file. An incomplete last line, which a killed run can leave, is dropped.

    Args:
        path: the file.

    Returns:
        The objects in the order of the file, and whether a line was dropped.

    Raises:
        FlatvqError: if the file cannot be read, or a line before the last is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "records.jsonl"
        ...     _ = path.write_text('{"kind": "train", "step": 1}' + chr(10) + '{"kind": "tra')
        ...     lines = load_jsonl(path)
        >>> lines.rows, lines.truncated
        ([{'kind': 'train', 'step': 1}], True)
    """
    lines = [line for line in read_file(Path(path)).split(b"\n") if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_object(line, f"record {number} of {str(path)!r}"))
        except FlatvqError:
            if number < len(lines):
                raise
            return JsonLines(rows, truncated=True)
    return JsonLines(rows, truncated=False)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file. An incomplete last line is dropped with a warning in the log.

    Args:
        path: the file.

    Returns:
        The objects in the order of the file.

    Raises:
        FlatvqError: if the file cannot be read, or a line before the last is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "records.jsonl"
        ...     _ = path.write_text('{"kind": "train", "step": 1}' + chr(10) + '{"kind": "tra')
        ...     logging.disable(logging.WARNING)
        ...     read_jsonl(path)
        ...     logging.disable(logging.NOTSET)
        [{'kind': 'train', 'step': 1}]
    """
    lines = load_jsonl(path)
    if lines.truncated:
        logging.getLogger(__name__).warning("%s: the incomplete last line was dropped", path)
    return lines.rows


def _object(line: bytes, origin: str) -> dict[str, Any]:
    value = load_json(line, origin, _REMEDY, non_finite_is_null=True)
    if not isinstance(value, dict):
        raise FlatvqError(f"{origin} is not a JSON object", _REMEDY)
    return value
