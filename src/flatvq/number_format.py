"""Numbers as text, for tables on the terminal and in reports."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10
from typing import Literal

__all__ = ["MISSING", "Number", "NumberFormat", "amount", "decimals", "number", "percent", "signed"]

MISSING = "–"
"""Text in place of a value that is missing."""

_MINUS = "−"

Number = float | int


def number(value: Number | None, digits: int = 0) -> str:
    """Format a number with thousands separators.

    Example:
        >>> number(1343491), number(-0.125, 2), number(None)
        ('1,343,491', '−0.12', '–')
    """
    return MISSING if value is None else f"{value:,.{digits}f}".replace("-", _MINUS)


def signed(value: Number | None, digits: int = 2) -> str:
    """Format a difference with its sign.

    Example:
        >>> signed(0.07), signed(-1.2), signed(0.0)
        ('+0.07', '−1.20', '+0.00')
    """
    return MISSING if value is None else f"{value:+,.{digits}f}".replace("-", _MINUS)


def decimals(margin: Number | None) -> int:
    """Return the digits after the decimal point that differences need next to a margin; at least two.

    Example:
        >>> decimals(0.1), decimals(0.005), decimals(500), decimals(None)
        (2, 4, 2, 2)
    """
    return max(2, 1 - floor(log10(margin))) if margin else 2


def percent(share: Number | None, digits: int = 0) -> str:
    """Format a share as a percentage.

    Example:
        >>> percent(0.9954, 1)
        '99.5 %'
    """
    return MISSING if share is None else f"{number(100 * share, digits)} %"


def amount(value: Number | None) -> str:
    """Format a large number with three digits and a decimal prefix.

    Example:
        >>> amount(4.2112e9), amount(826691), amount(93)
        ('4.21 G', '827 k', '93')
    """
    if value is None:
        return MISSING
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)} {prefix}"
    return _three_digits(value)


def _three_digits(value: Number) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return number(value, 0 if value == int(value) and abs(value) < 1000 else digits)


@dataclass(frozen=True)
class NumberFormat:
    """The number format of a metric or a capacity.

    Args:
        style: `plain`, with thousands separators; `percent`; or `prefix`, with a decimal prefix.
        digits: digits after the decimal point; `prefix` always shows three digits in total.
        factor: multiplies the value first.

    Example:
        >>> NumberFormat(digits=2)(25.1234), NumberFormat("percent", 1)(0.5), NumberFormat("prefix")(4.2e9)
        ('25.12', '50.0 %', '4.20 G')
        >>> NumberFormat(digits=3, factor=1000)(0.0031), NumberFormat()(None)
        ('3.100', '–')
    """

    style: Literal["plain", "percent", "prefix"] = "plain"
    digits: int = 0
    factor: float = 1.0

    def __call__(self, value: Number | None) -> str:
        """Format a value; a missing one becomes an en dash."""
        if value is None:
            return MISSING
        value = self.factor * value if self.factor != 1.0 else value
        if self.style == "prefix":
            return amount(value)
        return percent(value, self.digits) if self.style == "percent" else number(value, self.digits)
