"""The one rule that answers claims: a function of a 90 % interval and of the margin, and of nothing else.

It is fixed for all claims alike, so that no row is judged by taste:

- a *gain* is claimed: yes if the interval lies above zero and not inside the margin, no if it lies wholly
  below the margin, otherwise not shown;
- *no gain* is claimed: the same with yes and no exchanged;
- a *loss* is claimed: as a gain, with the sign turned;
- *as good as* is claimed: yes if the interval lies wholly above minus the margin, no if it lies below zero
  and not inside the margin, otherwise not shown.
"""

from __future__ import annotations

from typing import Literal

from flatvq.study.statistics import Difference

__all__ = ["Answer", "Kind", "answer"]

Kind = Literal["gain", "no gain", "loss", "as good as"]
Answer = Literal["yes", "no", "not shown"]

_OPPOSITE: dict[Answer, Answer] = {"yes": "no", "no": "yes", "not shown": "not shown"}


def answer(kind: Kind, found: Difference) -> Answer:
    """Answer a claim by the rule.

    Example:
        >>> from flatvq.study.statistics import compare
        >>> half_a_decibel = compare([0.5, 0.6, 0.4], [0.0, 0.0, 0.0], margin=0.1)
        >>> [answer(kind, half_a_decibel) for kind in ("gain", "loss", "as good as")]
        ['yes', 'no', 'yes']
    """
    if found.interval90 is None:
        return "not shown"
    low, high = found.interval90
    margin = found.margin
    if kind == "loss":
        low, high = -high, -low
    if kind == "no gain":
        return _OPPOSITE[answer("gain", found)]
    if kind == "as good as":
        if low > -margin:
            return "yes"
        return "no" if high < 0 else "not shown"
    if low > 0 and high > margin:
        return "yes"
    return "no" if high < margin else "not shown"
