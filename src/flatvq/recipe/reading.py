"""Validation of plain trees as recipes, with one-line errors that name the key, the value and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flatvq.errors import FlatvqError, UnknownNameError, suggestion

__all__ = ["merge", "parse", "section_of", "set_key", "shown"]

R = TypeVar("R", bound=BaseModel)


def merge(base: dict[str, Any], diff: dict[str, Any]) -> dict[str, Any]:
    """Apply a diff to a tree: dictionaries are merged key by key, other values are replaced.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"b": 3}, "d": [4]})
        {'a': {'b': 3, 'c': 2}, 'd': [4]}
    """
    merged = dict(base)
    for key, value in diff.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def set_key(tree: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Return a copy of a tree with one value replaced.

    Args:
        tree: the tree, which is not changed.
        dotted: the path of the value; numbers select items of lists.
        value: the new value.


    Raises:
        FlatvqError: if the path leads through a value without keys, or a list is missing or has no item of
            that number.

    Example:
        >>> set_key({"model": {"levels": [{"codebook_size": 8}]}}, "model.levels.0.codebook_size", 16)
        {'model': {'levels': [{'codebook_size': 16}]}}
    """
    head, _, rest = dotted.partition(".")
    if not rest:
        return {**tree, head: value}
    return {**tree, head: _set_below(tree.get(head), head, rest, value)}


def _set_below(below: Any, head: str, rest: str, value: Any) -> Any:
    """Replace a value in the mapping or list named `head`; a missing one counts as an empty mapping."""
    if below is None and rest.partition(".")[0].isdigit():
        what = f"{head!r} is not set here, so it has no item {rest.partition('.')[0]}"
        raise FlatvqError(what, "write the whole list, as an arm replaces lists as a whole")
    if below is None or isinstance(below, dict):
        return set_key(below or {}, rest, value)
    if not isinstance(below, list | tuple):
        what = f"{head!r} is {shown(below)}, which has no key {rest!r}"
        raise FlatvqError(what, f"set {head!r} to a mapping, or name another key")
    number, _, deeper = rest.partition(".")
    if number not in map(str, range(len(below))):
        raise FlatvqError(f"{head!r} has {len(below)} items, and none is {number!r}", "count from 0")
    items = list(below)
    position = int(number)
    items[position] = _set_below(items[position], f"{head}.{number}", deeper, value) if deeper else value
    return items


def parse(
    kind: type[R], tree: Any, origin: str = "the recipe", overrides: Mapping[str, str] | None = None
) -> R:
    """Validate a plain tree as a recipe.

    Args:
        kind: `StudyRecipe`, `TrialRecipe` or one of their sections.
        tree: the content of a YAML or JSON file.
        origin: name of the tree in error messages.
        overrides: the overrides that are part of the tree, by dotted key. Errors at or below such a key name
            the override in place of the origin.

    Returns:
        The frozen recipe.

    Raises:
        FlatvqError: if a key is unknown or a value is not valid. The message names the key and the value, and
            suggests the closest known key.

    Example:
        >>> from flatvq.recipe import TrialRecipe
        >>> parse(TrialRecipe, {"train": {"setps": 5}})
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: unknown key 'train.setps' in the recipe: did you mean 'steps'?
    """
    if not isinstance(tree, dict):
        raise FlatvqError(f"{origin} is not a mapping of keys to values", "see `flatvq recipes` for examples")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise _explained(kind, error, origin, overrides or {}) from None


def _explained(
    kind: type[BaseModel], error: ValidationError, origin: str, overrides: Mapping[str, str]
) -> FlatvqError:
    """Describe the first error that pydantic reports in one line."""
    detail = error.errors()[0]
    path = [str(part) for part in detail["loc"]]
    dotted = ".".join(path)
    origin = _origin_of(dotted, origin, overrides)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(kind, path[:-1])
        return FlatvqError(f"unknown key {dotted!r} in {origin}", suggestion(path[-1], known))
    if detail["type"] == "value_error":
        place = f" under {dotted!r}" if dotted else ""
        cause = detail["ctx"]["error"]
        if isinstance(cause, UnknownNameError):
            return FlatvqError(f"{cause.what}{place} in {origin}", cause.remedy)
        return FlatvqError(f"{cause}{place}", f"change it in {origin}")
    return FlatvqError(f"{dotted!r} is {shown(detail['input'])} in {origin}", _remedy(kind, path, detail))


def _origin_of(dotted: str, origin: str, overrides: Mapping[str, str]) -> str:
    """Return the name of the override that set a value, or else the name of the tree."""
    above = [key for key in overrides if f"{dotted}.".startswith(f"{key}.")]
    if above:
        return f"override {overrides[max(above, key=len)]!r}"
    # An error of a section may be due to any of its keys.
    below = any(f"{key}.".startswith(f"{dotted}." if dotted else "") for key in overrides)
    return f"{origin} or an override" if below else origin


def _remedy(kind: type[BaseModel], path: list[str], detail: ErrorDetails) -> str:
    """Return what to write instead, in terms of YAML where pydantic's message is about Python."""
    value = detail["input"]
    match detail["type"]:
        case "tuple_type":
            example = f", such as [{shown(value)}]" if isinstance(value, int | float | str) else ""
            return f"write a list{example}"
        case "model_type":
            return f"write a mapping with the keys {', '.join(sorted(_fields_at(kind, path)))}"
        case "dict_type":
            return "write a mapping of keys to values"
        case "too_short":
            return f"give at least {detail['ctx']['min_length']}"
        case "string_type" if not isinstance(value, dict | list | None):
            return "write it in quotes" if isinstance(value, float) else f"write it in quotes: {str(value)!r}"
        case "int_from_float" | "int_type" | "int_parsing":
            return "write a whole number"
        case "missing":
            return "give it a value"
    return detail["msg"][0].lower() + detail["msg"][1:]


def shown(value: Any) -> str:
    """Return a value as a recipe shows it, in at most 60 characters.

    Example:
        >>> shown(None), shown(True), shown("many"), shown(list(range(100)))
        ('empty', 'true', "'many'", '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...')
    """
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    """Return the known keys of the section at a path."""
    for part in path:
        if part in kind.model_fields:
            kind = section_of(kind.model_fields[part].annotation) or kind
    return list(kind.model_fields)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the recipe class in an annotation such as `tuple[LevelRecipe, ...]`; None if there is none."""
    return next(_models(annotation), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the recipe classes in an annotation such as `tuple[LevelRecipe, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
