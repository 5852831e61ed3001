"""JSON as flatvq writes it: what differs, such as a key that occurs twice in an object, is damage."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn

from flatvq.errors import FlatvqError

__all__ = ["load_json"]

_LONGEST = 120


def load_json(
    content: bytes, origin: str, remedy: str = "restore it", *, non_finite_is_null: bool = False
) -> Any:
    """Read a JSON document.

    Args:
        content: the document, in UTF-8.
        origin: what to call it in an error.
        remedy: what to do about it if it is damaged.
        non_finite_is_null: whether NaN and infinity, which JSON does not have, are read as None; otherwise
            they are damage.

    Returns:
        What it holds; text that can be written in UTF-8.

    Raises:
        FlatvqError: if it is not JSON, holds a key twice or a number that JSON does not have.

    Example:
        >>> load_json(b'{"steps": 10, "steps": 20}', "'recipe.json'")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: 'recipe.json' is damaged (the key 'steps' twice): restore it
        >>> load_json(b'[0.5, NaN, 1e999]', "'metrics.json'", non_finite_is_null=True)
        [0.5, None, None]
    """
    refuse = _none if non_finite_is_null else _refuse
    try:
        tree = json.loads(
            content.decode(),
            object_pairs_hook=_with_different_keys,
            parse_constant=refuse,
            parse_float=lambda text: number if isfinite(number := float(text)) else refuse(text),
        )
        if b"\\u" in content:
            json.dumps(tree, ensure_ascii=False).encode()  # half of a pair of surrogates is no character
    except RecursionError:
        raise FlatvqError(f"{origin} is damaged (nested too deeply)", remedy) from None
    except UnicodeEncodeError:
        raise FlatvqError(f"{origin} is damaged (text that is not Unicode)", remedy) from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError, too
        raise FlatvqError(f"{origin} is damaged ({str(error)[:_LONGEST]})", remedy) from None
    return tree


def _with_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {twice!r} twice")
    return tree


def _none(text: str) -> None:
    return None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"the number {text}")
