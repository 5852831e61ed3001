"""The base class of records, the types of their values, and the validation of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from flatvq.errors import FlatvqError
from flatvq.recipe.section import LAST_STEP
from flatvq.recipe.strict_json import load_json
from flatvq.regular import read_regular

__all__ = [
    "Count",
    "Decibels",
    "ExactNumber",
    "Format1",
    "Format2",
    "Format3",
    "Number",
    "Pair",
    "Positive",
    "Record",
    "Several",
    "Share",
    "Similarity",
    "Step",
    "check_record",
    "read_file",
    "read_record",
]

T = TypeVar("T")
R = TypeVar("R", bound="Record")

_MAX_FLOAT32 = 3.5e38
_MAX_PATH = 60
# Records of a study with thousands of trials take a few megabytes.
_MAX_BYTES = 2**28

Number = Annotated[float, Field(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)]
"""A number within the range of float32; an integer becomes a float."""


def _keep_integer(value: Any, validate: ValidatorFunctionWrapHandler) -> float:
    number: float = validate(value)
    return value if isinstance(value, int) else number


ExactNumber = Annotated[Number, WrapValidator(_keep_integer), PlainSerializer(lambda value: value)]
"""A number within the range of float32; an integer stays an integer, so that it is written as one."""
Decibels = Annotated[float, Field(ge=-1000, le=1000)]
"""A PSNR or a difference of PSNRs, in dB."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A share, from 0 to 1."""
Similarity = Annotated[float, Field(ge=-1.01, le=1.01)]
"""SSIM or MS-SSIM, with room for rounding."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A count."""
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A count of at least one."""
Step = Annotated[int, Field(ge=0, le=LAST_STEP)]
"""An optimizer step."""
Format1 = Annotated[int, Field(ge=1, le=1)]
"""The format number of a record whose current format is 1."""
Format2 = Annotated[int, Field(ge=2, le=2)]
"""The format number of a record whose current format is 2."""
Format3 = Annotated[int, Field(ge=3, le=3)]
"""The format number of a record whose current format is 3."""
# JSON has no tuples, and pydantic in strict mode does not accept a list in place of one.
Several = Annotated[tuple[T, ...], Strict(False)]
"""A list."""
Pair = Annotated[tuple[T, T], Strict(False)]
"""A list of two values."""


class Record(BaseModel):
    """Frozen and strict: values are not converted. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


def read_record(kind: type[R], path: Path, remedy: str) -> R:
    """Read a JSON file that holds one record.

    Args:
        kind: the class of the record.
        path: the file.
        remedy: what to do if the file is damaged.

    Raises:
        FlatvqError: if the file cannot be read or does not hold a valid record.
    """
    origin = repr(str(path))
    return check_record(
        kind, load_json(read_file(path), origin, remedy, non_finite_is_null=True), origin, remedy
    )


def check_record(kind: type[R], tree: Any, origin: str, remedy: str) -> R:
    """Validate a JSON value as a record.

    Args:
        kind: the class of the record.
        tree: the JSON value.
        origin: name of the value in error messages.
        remedy: what to do if a value is not valid.

    Raises:
        FlatvqError: if the value is not an object, or a key is missing or has an invalid value. The message
            names the first such key.

    Example:
        >>> class Validation(Record):
        ...     psnr_db: Decibels
        >>> check_record(Validation, {"psnr_db": 25}, "the record", "validate again").psnr_db
        25.0
        >>> check_record(Validation, {"psnr_db": "25"}, "it", "remove it")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: it holds no valid 'psnr_db' (input should be a valid number): remove it
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        detail = error.errors()[0]
        # Checks of a whole record name the key in the context.
        path = [*detail["loc"], *([key] if (key := detail.get("ctx", {}).get("key")) else [])]
        where = ".".join(str(part) for part in path)[:_MAX_PATH]
        place = f"no valid {where!r}" if where else "no record"
        message = detail["msg"].splitlines()[0].lower()
        raise FlatvqError(f"{origin} holds {place} ({message})", remedy) from None


def read_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FlatvqError: if the file cannot be read, is not a regular file, or is larger than 256 MiB.
    """
    try:
        return read_regular(path, _MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise FlatvqError(f"cannot read {str(path)!r} ({type(error).__name__})", "check the path") from None
