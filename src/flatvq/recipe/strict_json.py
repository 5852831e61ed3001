"""JSON as flatvq writes it: what differs, such as a key that occurs twice in an object, is damage."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flatvq.errors import FlatvqError

__all__ = ["load_json"]


def load_json(content: bytes, origin: str) -> Any:
    """Read a JSON document.

    Args:
        content: the document, in UTF-8.
        origin: what to call it in an error.

    Returns:
        What it holds.

    Raises:
        FlatvqError: if it is not JSON, holds a key twice or a number that JSON does not have.

    Example:
        >>> load_json(b'{"steps": 10, "steps": 20}', "'recipe.json'")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: 'recipe.json' is damaged (the key 'steps' twice): restore it
    """
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_with_different_keys, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise FlatvqError(f"{origin} is damaged (nested too deeply)", "restore it") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError, too
        raise FlatvqError(f"{origin} is damaged ({error})", "restore it") from None


def _with_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {twice!r} twice")
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")
