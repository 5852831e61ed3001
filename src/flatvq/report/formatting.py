"""Numbers and names as a reader wants them. A value that is missing reads as an en dash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "NOTHING",
    "amount",
    "brief",
    "changes",
    "level_name",
    "number",
    "percent",
    "said",
    "short",
    "signed",
]

NOTHING = "–"
MINUS = "−"

Number = float | int


def number(value: Number | None, digits: int = 0) -> str:
    """Write a number with thousands separators.

    Example:
        >>> number(1343491), number(-0.125, 2), number(None)
        ('1,343,491', '−0.12', '–')
    """
    return NOTHING if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


def brief(value: Any) -> str:
    """Write the value of a setting, numbers with three digits.

    Example:
        >>> brief(0.0012345), brief(64), brief("kmeans")
        ('0.00123', '64', 'kmeans')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def signed(value: Number | None, digits: int = 2) -> str:
    """Write a difference with its sign.

    Example:
        >>> signed(0.07), signed(-1.2), signed(0.0)
        ('+0.07', '−1.20', '+0.00')
    """
    return NOTHING if value is None else f"{value:+,.{digits}f}".replace("-", MINUS)


def percent(share: Number | None, digits: int = 0) -> str:
    """Write a share in percent.

    Example:
        >>> percent(0.9954, 1)
        '99.5 %'
    """
    return NOTHING if share is None else f"{number(100 * share, digits)} %"


def amount(value: Number | None) -> str:
    """Write a large amount with three digits and a decimal prefix.

    Example:
        >>> amount(4.2112e9), amount(826691), amount(93)
        ('4.21 G', '827 k', '93')
    """
    if value is None:
        return NOTHING
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)} {prefix}"
    return _three_digits(value)


def short(value: Number) -> str:
    """Write a number for the tick of an axis.

    Example:
        >>> short(0.05), short(-2.0), short(25000), short(600)
        ('0.05', '−2', '25k', '600')
    """
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if prefix == 'k' else size):g}{prefix}".replace("-", MINUS)
    return f"{value:g}".replace("-", MINUS)


def level_name(level: int, levels: int) -> str:
    """Name a level by its place; they are counted from the finest grid.

    Example:
        >>> [level_name(i, 3) for i in range(3)], level_name(0, 1), level_name(1, 4)
        (['bottom', 'middle', 'top'], 'only level', 'level 2 of 4')
    """
    names = {1: ["only level"], 2: ["bottom", "top"], 3: ["bottom", "middle", "top"]}
    return names[levels][level] if levels in names else f"level {level + 1} of {levels}"


def said(value: Any) -> str:
    """Put a small JSON value into words.

    Example:
        >>> said({"model.levels.0.codebook_size": 2435, "width": [64, 72]}), said({}), said("2 cores")
        ('model.levels.0.codebook_size: 2435, width: 64, 72', '', '2 cores')
    """
    if isinstance(value, dict):
        return ", ".join(f"{key}: {said(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(said(item) for item in value)
    return "" if value is None else str(value)


def changes(value: Any) -> str:
    """Put what the matching solver changed into words: old and new value by key.

    Example:
        >>> changes({"levels.0.codebook_size": [1024, 1625], "width": 72}), changes(None)
        ('levels.0.codebook_size: 1024 → 1625, width: 72', '')
    """
    if not isinstance(value, dict):
        return said(value)
    pairs = {key: f"{said(v[0])} → {said(v[1])}" if _is_pair(v) else v for key, v in value.items()}
    return said(pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _three_digits(value: Number) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return number(value, 0 if value == int(value) and abs(value) < 1000 else digits)
