"""Strict reading of JSON: duplicate keys and non-finite numbers count as damage."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn

from flatvq.errors import FlatvqError

__all__ = ["load_json"]

_MAX_CHARACTERS = 120


def load_json(
    content: bytes, origin: str, remedy: str = "restore it", *, non_finite_is_null: bool = False
) -> Any:
    """Read a JSON document.

    Args:
        content: the document, in UTF-8.
        origin: name of the document in error messages.
        remedy: what to do if the document is damaged.
        non_finite_is_null: whether NaN and infinity, which JSON does not define, are read as None. Otherwise
            they count as damage.

    Returns:
        The value of the document. All its strings can be encoded in UTF-8.

    Raises:
        FlatvqError: if the document is not JSON, or holds a duplicate key or a non-finite number.

    Example:
        >>> load_json(b'{"steps": 10, "steps": 20}', "'recipe.json'")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: 'recipe.json' is damaged (the key 'steps' twice): restore it
        >>> load_json(b'[0.5, NaN, 1e999]', "'metrics.json'", non_finite_is_null=True)
        [0.5, None, None]
    """
    parse_constant = _to_none if non_finite_is_null else _reject
    try:
        tree = json.loads(
            content.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=parse_constant,
            parse_float=lambda text: number if isfinite(number := float(text)) else parse_constant(text),
        )
        if b"\\u" in content:
            json.dumps(tree, ensure_ascii=False).encode()  # raises for a lone surrogate
    except RecursionError:
        raise FlatvqError(f"{origin} is damaged (nested too deeply)", remedy) from None
    except UnicodeEncodeError:
        raise FlatvqError(f"{origin} is damaged (text that is not Unicode)", remedy) from None
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise FlatvqError(f"{origin} is damaged ({str(error)[:_MAX_CHARACTERS]})", remedy) from None
    return tree


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {duplicate!r} twice")
    return tree


def _to_none(text: str) -> None:
    return None


def _reject(text: str) -> NoReturn:
    raise ValueError(f"the number {text}")
