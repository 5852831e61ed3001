"""What the reference claims, what was measured of it, and the plain answer that follows by rule.

An answer is a function of a 90 % interval and of the margin, fixed here for all claims alike, so that no row
is judged by taste:

- a *gain* is claimed: yes if the interval lies above zero and not inside the margin, no if it lies wholly
  below the margin, otherwise not shown;
- *no gain* is claimed: the same with yes and no exchanged;
- a *loss* is claimed: as a gain, with the sign turned;
- *as good as* is claimed: yes if the interval lies wholly above minus the margin, no if it lies below zero
  and not inside the margin, otherwise not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from findings.records import Pair, Record
from flatvq.study.statistics import Difference, compare

__all__ = ["Claim", "answer", "claims"]

Kind = Literal["gain", "no gain", "loss", "as good as"]
Answer = Literal["yes", "no", "not shown"]

_OPPOSITE: dict[Answer, Answer] = {"yes": "no", "no": "yes", "not shown": "not shown"}
_COLLAPSE = "Collapse limits single-level models"
_WIDTH = "Wide embeddings destabilise the quantization"
_MENDING = "Seeding from data and the reset of inactive codes mend collapse"
_PARITY = "Matched and healthy, a single level reconstructs as well as a hierarchy"
_CONTENT = "Higher levels add no reconstructive content to what the lower ones hold"

_MARGIN = 0.1  # dB, that of all the studies


@dataclass(frozen=True)
class Claim:
    """A part of a claim that a pair of arms can answer."""

    of: str
    """The reference's claim."""
    text: str
    """The part of it that the pair is about."""
    kind: Kind
    pair: Pair

    @property
    def answer(self) -> Answer:
        """What the pair's interval says of it."""
        return answer(self.kind, self.pair.found)


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


def claims(records: Mapping[str, Record], levels: Mapping[str, Any]) -> list[Claim]:
    """Put the reference's claims to the records that are there.

    Args:
        records: the studies, by name.
        levels: what `flatvq levels` found, by arm and seed, such as `parallel-seed-10`.
    """
    found: list[Claim] = []

    def ask(of: str, text: str, kind: Kind, record: str, a: str, b: str) -> None:
        if record in records:
            found.append(Claim(of, text, kind, records[record].pair(a, b)))

    factorial = "imagenet-64-bits"
    for model, name in (("single", "One level"), ("parallel", "Two parallel levels")):
        text = f"{name} with seeding and revival against without"
        ask(_COLLAPSE, f"{text}: a gain", "gain", factorial, f"{model}-both", f"{model}-nothing")
    text = "Without either, one level reconstructs worse than two"
    ask(_COLLAPSE, text, "loss", factorial, "single-nothing", "parallel-nothing")
    for kind in ("naive", "healthy"):
        for wide, narrow in ((64, 4), (256, 4), (256, 16)):
            text = f"{kind.capitalize()}, codes of {wide} dimensions lose against codes of {narrow}"
            ask(_WIDTH, text, "loss", "dimension", f"{kind}-{wide}-of-512", f"{kind}-{narrow}-of-512")
    if "dimension" in records:
        text = "Healthy, codes of 256 lose less against codes of 4 than naive"
        found.append(Claim(_WIDTH, text, "gain", _of_losses(records["dimension"])))
    for model, name in (("single", "one level"), ("parallel", "two parallel levels")):
        for arm, what in (("seeding", "Seeding from data"), ("revival", "Revival")):
            text = f"{what} alone, {name}: a gain"
            ask(_MENDING, text, "gain", factorial, f"{model}-{arm}", f"{model}-nothing")
        text = f"Seeding from data on top of revival, {name}: a gain"
        ask(_MENDING, text, "gain", factorial, f"{model}-both", f"{model}-revival")
    for other in ("parallel", "conditioned"):
        text = f"One level is as good as two {other} ones"
        ask(_PARITY, text, "as good as", "headline", "single", other)
    for model in ("parallel", "conditioned"):
        mine = [one for name, one in levels.items() if name.startswith(model)]
        if mine:
            text = f"Decoders trained anew gain nothing with the top of a {model} hierarchy"
            found.append(Claim(_CONTENT, text, "no gain", _with_and_without(model, mine)))
            text = f"The top's bits bring a {model} hierarchy less than as many bits bring one level"
            found.append(Claim(_CONTENT, text, "loss", _top_and_beside(model, mine)))
    return found


def _of_losses(record: Record) -> Pair:
    """Compare what width costs a healthy codebook with what it costs a naive one, seed by seed."""
    healthy, naive = (
        record.pair(f"{kind}-256-of-512", f"{kind}-4-of-512").found.per_seed for kind in ("healthy", "naive")
    )
    found = compare(healthy, naive, margin=_MARGIN)
    return Pair(record.name, "study.json", "healthy (256 − 4)", "naive (256 − 4)", found)


def _with_and_without(model: str, levels: Sequence[Any]) -> Pair:
    """Compare the decoders that were trained anew with and without the top level, over seeds."""
    sides = [
        [next(d["psnr_db"] for d in one["refitted"] if d["without"] == without) for one in levels]
        for without in (None, 1)
    ]
    found = compare(sides[0], sides[1], margin=_MARGIN)
    return Pair("levels", "", f"{model}, all levels", f"{model}, without the top", found)


def _top_and_beside(model: str, levels: Sequence[Any]) -> Pair:
    """Compare what the top's bits add to the bottom with what as many add on one level."""
    top = [next(worth["gain_db"] for worth in one["worth"] if worth["level"] == 1) for one in levels]
    beside = [one["beside"]["gain_db"] for one in levels]
    return Pair(
        "levels", "", f"{model}, gain of the top", "gain on one level", compare(top, beside, margin=_MARGIN)
    )
