"""The base class of all records, the types of their values, and how a file becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from flatvq.errors import FlatvqError
from flatvq.recipe.section import LAST_STEP
from flatvq.recipe.strict_json import load_json

__all__ = [
    "Count",
    "Decibels",
    "Format1",
    "Format2",
    "Integer",
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

_LARGEST = 3.5e38
_LONGEST = 60

Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
"""Within the range of float32, in which everything is computed."""
Integer = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer that stays one; `Number` turns it into a float."""
Decibels = Annotated[float, Field(ge=-1000, le=1000)]
"""A PSNR, or a difference of two."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""
Similarity = Annotated[float, Field(ge=-1.01, le=1.01)]
"""SSIM or MS-SSIM, with room for rounding."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""How many."""
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""How many, at least one."""
Step = Annotated[int, Field(ge=0, le=LAST_STEP)]
"""An optimiser step."""
Format1 = Annotated[int, Field(ge=1, le=1)]
"""The format number of a record whose current format is 1."""
Format2 = Annotated[int, Field(ge=2, le=2)]
"""The format number of a record whose current format is 2."""
# Pydantic calls a list in place of a tuple a conversion; JSON has lists alone.
Several = Annotated[tuple[T, ...], Strict(False)]
"""A list."""
Pair = Annotated[tuple[T, T], Strict(False)]
"""A list of two."""


class Record(BaseModel):
    """Frozen; a number is a number, neither text nor true or false. Unknown keys are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


def read_record(kind: type[R], path: Path, remedy: str) -> R:
    """Read a file that holds one record as JSON.

    Args:
        kind: the record's class.
        path: the file.
        remedy: what to do about a file that is damaged.

    Raises:
        FlatvqError: if the file cannot be read, or does not hold such a record.
    """
    origin = repr(str(path))
    return check_record(
        kind, load_json(read_file(path), origin, remedy, non_finite_is_null=True), origin, remedy
    )


def check_record(kind: type[R], tree: Any, origin: str, remedy: str) -> R:
    """Make a record of what JSON held.

    Args:
        kind: the record's class.
        tree: the JSON value.
        origin: what to call it in an error.
        remedy: what to do about a value that is not valid.

    Raises:
        FlatvqError: if it is not an object, or a value is missing or not valid; the first one is named.

    Example:
        >>> class Look(Record):
        ...     psnr_db: Decibels
        >>> check_record(Look, {"psnr_db": 25}, "the look", "look again").psnr_db
        25.0
        >>> check_record(Look, {"psnr_db": "25"}, "it", "look again")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: it holds no valid 'psnr_db' (input should be a valid number): look again
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        finding = error.errors()[0]
        where = ".".join(str(part) for part in finding["loc"])[:_LONGEST]
        place = f"no valid {where!r}" if where else "no record"
        message = finding["msg"].splitlines()[0].lower()
        raise FlatvqError(f"{origin} holds {place} ({message})", remedy) from None


def read_file(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        FlatvqError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise FlatvqError(f"cannot read {str(path)!r} ({type(error).__name__})", "check the path") from None
