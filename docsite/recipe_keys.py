"""The reference of recipe keys, generated from the classes that read recipes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from flatvq.recipe import StudyRecipe
from flatvq.recipe.reading import section_of

__all__ = ["recipe_keys"]

_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {
    "boolean": "`true` or `false`",
    "string": "text",
    "object": "sections by name",
    "null": "`null`",
}


def recipe_keys() -> str:
    """Return a section for each section of a recipe, with the values, default and meaning of each key."""
    return "\n\n".join(_section(path, kind) for path, kind in _sections(StudyRecipe, "").items())


def _sections(kind: type[BaseModel], path: str) -> dict[str, type[BaseModel]]:
    """Return a recipe's sections by dotted path, the whole recipe first."""
    sections = {path: kind}
    for name, field in kind.model_fields.items():
        below = section_of(field.annotation)
        if below is not None and name != "arms":  # an arm has the study's own sections
            sections |= _sections(below, f"{path}.{name}".lstrip("."))
    return sections


def _section(path: str, kind: type[BaseModel]) -> str:
    title = f"## `{path}`" if path else "## A study"
    rows = [
        f"`{f'{path}.{name}'.lstrip('.')}`\n:   {' '.join(field['description'].split())}\n\n"
        f"    Values: {_values(field)}. {_default(field)}"
        for name, field in kind.model_json_schema()["properties"].items()
        if "description" in field
    ]
    return "\n\n".join([title, *rows])


def _values(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_values(one) for one in field["anyOf"])
    if "$ref" in field:
        return "a section"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        items = field["items"]
        return f"list of {_values(items)}" if "enum" in items else "list"
    bounds = [f"{sign} {field[key]:.9g}" for key, sign in _SIGNS.items() if key in field]
    multiple = [f"multiple of {field['multipleOf']}"] if "multipleOf" in field else []
    return ", ".join([_TYPES.get(field["type"], field["type"]), *bounds, *multiple])


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "Required."
    value = field["default"]
    if value == "":
        return "Default: empty."
    return "" if _has_sections(value) else f"Default: `{json.dumps(value)}`."


def _has_sections(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_sections, value)))
