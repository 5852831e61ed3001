"""The base class of every section of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

__all__ = ["LAST_STEP", "LONGEST_SIDE", "MOST_LEVELS", "Section", "Seed", "Seeds"]

LAST_STEP = 99_999_999
"""Checkpoints are named by eight digits of their step."""
LONGEST_SIDE = 65_536
"""Pixels of a crop's side, and channels, at most: more fits no machine."""

MOST_LEVELS = 16
"""Each level halves the grid at least, and a side has at most 2 to the power of 16 pixels."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What everything random follows from."""


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ, not {list(seeds)}")
    return seeds


Seeds = Annotated[tuple[Seed, ...], AfterValidator(_different)]
"""One for each training."""


class Section(BaseModel):
    """Frozen; every key is known; a number is a number, neither text nor true or false."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would convert: `true` and '1' to 1."""
        kinds = set(_kinds(cls.model_fields[str(info.field_name)].annotation))
        if kinds & {int, float} and kinds <= {int, float, NoneType} and _has_conversion(value):
            message = "Input should be a finite number in decimals, without quotes"
            raise PydanticCustomError("number_type", message)
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types of the values inside an annotation such as `tuple[int, ...]` or `float | None`."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    if not arguments and annotation is not ...:
        yield annotation if isinstance(annotation, type) else type(annotation)  # of a Literal
    for argument in arguments:
        yield from _kinds(argument)


def _has_conversion(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_conversion, value))
    return isinstance(value, bool | str)
