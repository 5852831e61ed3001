"""The rule that answers claims. It depends only on the 90 % interval and the margin, and is the same for all.

- *gain*: yes if the interval lies above zero and not inside the margin; no if it lies below the margin;
  otherwise not shown.
- *no gain*: as for a gain, with yes and no exchanged.
- *loss*: as for a gain, with the opposite sign.
- *as good as*: yes if the interval lies above minus the margin; no if it lies below zero and not inside the
  margin; otherwise not shown.
"""

from __future__ import annotations

from typing import Literal

from flatvq.study.statistics import Difference

__all__ = ["Answer", "Kind", "answer"]

Kind = Literal["gain", "no gain", "loss", "as good as"]
Answer = Literal["yes", "no", "not shown"]

_OPPOSITE: dict[Answer, Answer] = {"yes": "no", "no": "yes", "not shown": "not shown"}


def answer(kind: Kind, difference: Difference) -> Answer:
    """Answer a claim by the rule.

    Args:
        kind: the kind of difference that is claimed.
        difference: the measured difference.

    Example:
        >>> from flatvq.study.statistics import compare
        >>> half_a_decibel = compare([0.5, 0.6, 0.4], [0.0, 0.0, 0.0], margin=0.1)
        >>> [answer(kind, half_a_decibel) for kind in ("gain", "loss", "as good as")]
        ['yes', 'no', 'yes']
    """
    if difference.interval90 is None:
        return "not shown"
    low, high = difference.interval90
    margin = difference.margin
    if kind == "loss":
        low, high = -high, -low
    if kind == "no gain":
        return _OPPOSITE[answer("gain", difference)]
    if kind == "as good as":
        if low > -margin:
            return "yes"
        return "no" if high < 0 else "not shown"
    if low > 0 and high > margin:
        return "yes"
    return "no" if high < margin else "not shown"
