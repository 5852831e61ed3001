"""The prose in a file: Markdown, docstrings, comments and messages of Python, comments of YAML, HTML."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Passage", "passages"]

# Shorter string constants are names and keys.
_WORDS_OF_A_MESSAGE = 4


@dataclass(frozen=True)
class Passage:
    """Text without code."""

    line: int
    """Where it begins, counted from 1."""
    text: str


def passages(path: Path) -> Iterator[Passage]:
    """Yield the prose of a file.

    Args:
        path: a file whose suffix is one of `.md`, `.py`, `.yaml`, `.html`; others have no prose.
    """
    reader = _READERS.get(path.suffix)
    if reader is not None:
        yield from reader(path.read_text(encoding="utf-8"))


def _markdown(text: str) -> Iterator[Passage]:
    # Blanks keep the line numbers.
    fenced = re.sub(r"^( *)```.*?^\1```", lambda code: "\n" * code[0].count("\n"), text, flags=re.M | re.S)
    for number, paragraph in _paragraphs(fenced):
        yield Passage(number, _without_code(paragraph))


def _python(text: str) -> Iterator[Passage]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            value = re.sub(r"^ *>>> .*?(?=^ *$|\Z)", "", node.value, flags=re.M | re.S)
            if len(value.split()) >= _WORDS_OF_A_MESSAGE:
                yield Passage(node.lineno, _without_code(value))
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if comments and comments[-1][0] + comments[-1][1].count("\n") == token.start[0] - 1:
                number, before = comments.pop()
                comments.append((number, f"{before}\n{token.string.lstrip('# ')}"))
            else:
                comments.append((token.start[0], token.string.lstrip("# ")))
    yield from (Passage(number, _without_code(comment)) for number, comment in comments)


def _yaml(text: str) -> Iterator[Passage]:
    only_comments = "\n".join(
        line.lstrip("# ") if line.lstrip().startswith("#") else "" for line in text.splitlines()
    )
    yield from (Passage(number, _without_code(comment)) for number, comment in _paragraphs(only_comments))


def _html(text: str) -> Iterator[Passage]:
    plain = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", " ", text, flags=re.S)
    yield from (Passage(number, paragraph) for number, paragraph in _paragraphs(plain))


_READERS: dict[str, Callable[[str], Iterator[Passage]]] = {
    ".md": _markdown,
    ".py": _python,
    ".yaml": _yaml,
    ".html": _html,
}


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"(?:.*\S.*\n?)+", text):
        yield text.count("\n", 0, match.start()) + 1, match[0]


def _without_code(text: str) -> str:
    """Replace inline code and links' targets by a word, and join the lines."""
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", text))
    return re.sub(r"\s+", " ", text).strip()
