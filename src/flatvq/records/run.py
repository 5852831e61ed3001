"""What a run leaves in its folder beside records.jsonl: status, metrics, code counts, values per image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from flatvq.errors import FlatvqError
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
    "FileFate",
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
    """status.json: how a run stands."""

    status: Literal["running", "stopped", "done", "failed"]
    step: Step
    steps: Step
    error: str | None = None


class FileFate(Record):
    """A file of the data that was not used as it is."""

    name: str
    split: str
    status: Literal["unreadable", "skipped", "converted", "undefined"]
    reason: str


class LevelMetrics(Record):
    """How one codebook was used over the whole held-out split."""

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
    """What an evaluation depends on beside the protocol."""

    flatvq: str
    fingerprint: str
    tokenizer: str | None
    weights: dict[str, str]


class Metrics(Record):
    """metrics.json: the final evaluation; SSIM and MS-SSIM are None where an image is too small for them."""

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
    files: Several[FileFate] = ()


class CodeCounts(Record):
    """How often each code of a level was used over the held-out split."""

    codebook_size: Positive
    counts: Several[Count]


class Codes(Record):
    """codes.json: the histograms of all levels."""

    levels: Several[CodeCounts]


def read_status(run: str | Path) -> Status:
    """Read the status of a run.

    Raises:
        FlatvqError: if there is none, or it is damaged.
    """
    return read_record(Status, Path(run) / "status.json", _again(run))


def read_metrics(run: str | Path) -> Metrics:
    """Read the final evaluation of a run.

    Raises:
        FlatvqError: if there is none, or it is damaged.
    """
    return read_record(Metrics, Path(run) / "metrics.json", _again(run))


def read_codes(run: str | Path) -> Codes:
    """Read the code counts of a run.

    Raises:
        FlatvqError: if there are none, or they are damaged.
    """
    return read_record(Codes, Path(run) / "codes.json", _again(run))


def read_images(run: str | Path) -> list[dict[str, Any]]:
    """Read what a run's final evaluation measured of each image.

    Args:
        run: its folder.

    Returns:
        `image`, `psnr_db`, `ssim`, `mse` and `ms_ssim` of each image; None where a metric is not defined.

    Raises:
        FlatvqError: if images.parquet is absent or damaged, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(run) / "images.parquet"
    content = pa.BufferReader(read_file(path))
    schema = pa.schema([("image", pa.string()), *((name, pa.float64()) for name in _COLUMNS)])
    try:
        table = pq.read_table(content, use_threads=False)
        if (table.schema.names, table.schema.types) != (schema.names, schema.types):
            raise FlatvqError(f"{str(path)!r} has other columns than {', '.join(schema.names)}", _again(run))
        table.validate(full=True)
        return list(table.to_pylist())
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FlatvqError(f"{str(path)!r} is damaged ({reason[:120]})", _again(run)) from None


def _again(run: str | Path) -> str:
    return f"write it again with `flatvq train {run}`"
