"""The base class of all sections of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from flatvq.registry import Registry

__all__ = ["LAST_STEP", "LONGEST_SIDE", "MOST_LEVELS", "NameIn", "Section", "Seed", "Seeds"]

LAST_STEP = 99_999_999
"""Largest step: the name of a checkpoint has eight digits."""
LONGEST_SIDE = 65_536
"""Largest side of a crop in pixels, and largest number of channels."""

MOST_LEVELS = 16
"""Largest number of levels: each level at least halves the grid, and a side has at most 2^16 pixels."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A random seed."""


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ, not {list(seeds)}")
    return seeds


Seeds = Annotated[tuple[Seed, ...], AfterValidator(_distinct)]
"""Distinct random seeds."""


@dataclass(frozen=True, eq=False)
class NameIn:
    """Annotation of a key whose value is a name in a registry, such as `Annotated[str, NameIn(SOURCES)]`."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check that the registry has the name. This reads the registry late, when a recipe is validated."""
        return no_info_after_validator_function(self.registry.known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """List the names of the registry."""
        return {**handler(schema), "enum": list(self.registry)}


class Section(BaseModel):
    """A frozen section. It rejects unknown keys, and strings or booleans in place of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject values that pydantic would convert to a number, such as `true` and '1'."""
        types = set(_value_types(cls.model_fields[str(info.field_name)].annotation))
        if types & {int, float} and types <= {int, float, NoneType} and _needs_conversion(value):
            if float in types:
                raise PydanticCustomError("number_type", "Write a finite number in decimals, without quotes")
            raise PydanticCustomError("number_type", "Write a whole number, without quotes")
        return value


def _value_types(annotation: Any) -> Iterator[Any]:
    """Yield the types of the values in an annotation such as `tuple[int, ...]` or `float | None`."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    if not arguments and annotation is not ...:
        yield annotation if isinstance(annotation, type) else type(annotation)  # of a Literal
    for argument in arguments:
        yield from _value_types(argument)


def _needs_conversion(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_needs_conversion, value))
    return isinstance(value, bool | str)
