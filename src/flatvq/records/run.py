"""The files of a run other than `records.jsonl`: status, metrics, code counts and metrics per image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from flatvq.errors import FlatvqError
from flatvq.records.measured import LevelMeasured, TrialMeasured
from flatvq.records.reading import (
    Count,
    Decibels,
    Number,
    Pair,
    Positive,
    Record,
    Several,
    Share,
    Similarity,
    Step,
    read_file,
    read_record,
)

__all__ = [
    "Codes",
    "FileRecord",
    "LevelMetrics",
    "Metrics",
    "Status",
    "read_codes",
    "read_images",
    "read_metrics",
    "read_status",
]

_COLUMNS = ("psnr_db", "ssim", "mse", "ms_ssim")


class Status(Record):
    """`status.json`: the progress of a run."""

    status: Literal["running", "stopped", "done", "failed"]
    step: Step
    steps: Step
    error: str | None = None


class FileRecord(Record):
    """A file of the data set that was skipped, unreadable or converted."""

    name: str
    split: str
    status: Literal["unreadable", "skipped", "converted", "undefined"]
    reason: str


class LevelMetrics(LevelMeasured):
    """Use of one codebook over the whole held-out split."""

    grid: Pair[Positive]
    codebook_size: Positive
    code_dim: Positive
    indices_per_cell: Positive = 1
    usage: Share
    perplexity: Annotated[float, Field(ge=0, le=2**63)]
    used_codes: Count
    codes_for_99: Count
    quantization_error: Annotated[Number, Field(ge=0)]


class MeasuredOn(Record):
    """What the result of an evaluation depends on, apart from the protocol."""

    flatvq: str
    commit: str | None = None
    training_protocol: Count | None = None
    fingerprint: str
    tokenizer: str | None
    weights: dict[str, str]


class Metrics(TrialMeasured):
    """`metrics.json`: the final evaluation. SSIM and MS-SSIM are None if an image is too small for them."""

    evaluation_protocol: str
    crop: Positive | None
    images: Positive
    psnr_db: Decibels
    psnr_of_mean_mse_db: Decibels
    mse: Share
    ssim: Similarity | None
    ms_ssim: Similarity | None
    bits_per_image: Annotated[Number, Field(ge=0)]
    bits_per_pixel: Annotated[Number, Field(ge=0)]
    effective_bits_per_image: Annotated[Number, Field(ge=0)]
    levels: Several[LevelMetrics] = Field(min_length=1)
    measured_on: MeasuredOn | None = None
    files: Several[FileRecord] = ()


class CodeCounts(Record):
    """Number of uses of each code of a level over the held-out split."""

    codebook_size: Positive
    counts: Several[Count]


class Codes(Record):
    """`codes.json`: the code counts of all levels."""

    levels: Several[CodeCounts]


def read_status(run: str | Path) -> Status:
    """Read the status of a run.

    Raises:
        FlatvqError: if the file is missing or damaged.
    """
    return read_record(Status, Path(run) / "status.json", _remedy(run))


def read_metrics(run: str | Path) -> Metrics:
    """Read the final evaluation of a run.

    Args:
        run: folder of the run, which holds `metrics.json`.

    Raises:
        FlatvqError: if the file is missing or damaged.

    Example:
        >>> read_metrics("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: cannot read 'nowhere/metrics.json' (FileNotFoundError): check the path
    """
    return read_record(Metrics, Path(run) / "metrics.json", _remedy(run))


def read_codes(run: str | Path) -> Codes:
    """Read how often each code of each level occurs in the held-out split of a run.

    Args:
        run: folder of the run, which holds `codes.json`.

    Raises:
        FlatvqError: if the file is missing or damaged.

    Example:
        >>> read_codes("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: cannot read 'nowhere/codes.json' (FileNotFoundError): check the path
    """
    return read_record(Codes, Path(run) / "codes.json", _remedy(run))


def read_images(run: str | Path) -> list[dict[str, Any]]:
    """Read the metrics of each image from the final evaluation of a run.

    Args:
        run: folder of the run.

    Returns:
        A dictionary per image with `image`, `psnr_db`, `ssim`, `mse` and `ms_ssim`; None for an undefined
        metric.

    Raises:
        FlatvqError: if `images.parquet` is missing or damaged, or has other columns.

    Example:
        >>> read_images("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: cannot read 'nowhere/images.parquet' (FileNotFoundError): check the path
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(run) / "images.parquet"
    content = pa.BufferReader(read_file(path))
    schema = pa.schema([("image", pa.string()), *((name, pa.float64()) for name in _COLUMNS)])
    try:
        table = pq.read_table(content, use_threads=False)
        if (table.schema.names, table.schema.types) != (schema.names, schema.types):
            raise FlatvqError(f"{str(path)!r} has other columns than {', '.join(schema.names)}", _remedy(run))
        table.validate(full=True)
        return list(table.to_pylist())
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FlatvqError(f"{str(path)!r} is damaged ({reason[:120]})", _remedy(run)) from None


def _remedy(run: str | Path) -> str:
    return f"write it again with `flatvq train {run}`"
