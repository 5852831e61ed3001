"""Output of `flatvq recipes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from textwrap import wrap

from pydantic import BaseModel

from flatvq.cli.tables import console
from flatvq.recipe import StudyRecipe
from flatvq.recipe.reading import section_of

__all__ = ["show_fields", "show_recipes"]


def show_recipes(texts: dict[str, str]) -> None:
    """Print the name and the leading comment of each recipe.

    Args:
        texts: the recipes by name.
    """
    for name, text in texts.items():
        console.print(name, style="bold")
        comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
        command, *lines = [line.removeprefix("#").strip() for line in comment]
        console.print(f"  {command}", soft_wrap=True)
        for paragraph in _paragraphs(lines):
            _print_indented(paragraph)


def _paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Join lines. The time and the expected result of a recipe begin paragraphs."""
    paragraph: list[str] = []
    for line in lines:
        if paragraph and line.startswith(("Time:", "Expected:")):
            yield " ".join(paragraph)
            paragraph = []
        paragraph.append(line)
    yield " ".join(paragraph)


def _print_indented(text: str) -> None:
    """Print a text with two spaces before each of its lines."""
    lines = wrap(" ".join(text.split()), console.width - 2, break_long_words=False, break_on_hyphens=False)
    console.print("\n".join(f"  {line}" for line in lines), soft_wrap=True)


def show_fields() -> None:
    """Describe every key of a recipe."""
    _show_section(StudyRecipe, "")


def _show_section(kind: type[BaseModel], prefix: str) -> None:
    for name, field in kind.model_fields.items():
        key = prefix + name
        section = section_of(field.annotation)
        console.print(key, style="bold")
        _print_indented(field.description or (section and section.__doc__) or "")
        if section is not None and name != "arms":
            _show_section(section, f"{key}.")
