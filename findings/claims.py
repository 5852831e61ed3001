"""What the reference claims, taken apart into questions that a pair of arms can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from findings.matchings import FACTORIALS, Matching, matchings
from findings.records import Pair, Record
from findings.rule import Answer, Kind, answer
from flatvq.study.statistics import compare

__all__ = ["Claim", "claims"]

_MARGIN = 0.1  # dB, that of all the studies
_FACTORIAL = "imagenet-64-bits"


@dataclass(frozen=True)
class Claim:
    """A part of a claim that a pair of arms can answer."""

    of: str
    """The reference's claim."""
    text: str
    """The part of it that the pair is about."""
    kind: Kind
    """What kind of difference it claims."""
    pair: Pair
    """The arms."""

    @property
    def answer(self) -> Answer:
        """What the pair's interval says of it."""
        return answer(self.kind, self.pair.found)


def claims(records: Mapping[str, Record], levels: Mapping[str, Any]) -> list[Claim]:
    """Put the reference's claims to the records that are there.

    Args:
        records: the studies, by name.
        levels: what `flatvq levels` found, by arm and seed, such as `parallel-seed-10`.
    """
    found: list[Claim] = []
    budgets = matchings(records)
    if _FACTORIAL in records:
        found += [*_collapse(records[_FACTORIAL], budgets), *_mending(records[_FACTORIAL])]
    if "dimension" in records:
        found += _width(records["dimension"])
    found += _parity(budgets)
    return [*found, *_content(levels)]


def _collapse(record: Record, budgets: Sequence[Matching]) -> Iterator[Claim]:
    of = "Collapse limits single-level models"
    for model, name in (("single", "One level"), ("parallel", "Two parallel levels")):
        text = f"{name} with init and replacement against without: a gain"
        yield Claim(of, text, "gain", record.pair(f"{model}-both", f"{model}-nothing"))
    for budget in budgets:
        if pair := budget.pair("naive", "parallel"):
            text = f"Without either, one level reconstructs worse than two, matched in {budget.words}"
            yield Claim(of, text, "loss", pair)


def _mending(record: Record) -> Iterator[Claim]:
    of = "Init from data and the reset of inactive codes mend collapse"
    for model, name in (("single", "one level"), ("parallel", "two parallel levels")):
        for arm, what in (("init", "Init from data"), ("replacement", "DeadCodeReplacement")):
            text = f"{what} alone, {name}: a gain"
            yield Claim(of, text, "gain", record.pair(f"{model}-{arm}", f"{model}-nothing"))
        text = f"Init from data on top of replacement, {name}: a gain"
        yield Claim(of, text, "gain", record.pair(f"{model}-both", f"{model}-replacement"))


def _width(record: Record) -> Iterator[Claim]:
    of = "Wide embeddings destabilise the quantization"
    for kind in ("naive", "healthy"):
        for wide, narrow in ((64, 4), (256, 4), (256, 16)):
            text = f"{kind.capitalize()}, codes of {wide} dimensions lose against codes of {narrow}"
            yield Claim(of, text, "loss", record.pair(f"{kind}-{wide}-of-512", f"{kind}-{narrow}-of-512"))
    # What width costs a healthy codebook beside what it costs a naive one, seed by seed.
    healthy, naive = (
        record.pair(f"{kind}-256-of-512", f"{kind}-4-of-512").found.per_seed for kind in ("healthy", "naive")
    )
    found = compare(healthy, naive, margin=_MARGIN)
    pair = Pair(record.name, "study.json", "healthy (256 − 4)", "naive (256 − 4)", found)
    yield Claim(of, "Healthy, codes of 256 lose less against codes of 4 than naive", "gain", pair)


def _parity(budgets: Sequence[Matching]) -> Iterator[Claim]:
    of = "Matched and healthy, a single level reconstructs as well as a hierarchy"
    # What was looked at while the rest was being made stays out of the table: only fresh seeds count here.
    for budget in budgets:
        if budget.record.name in FACTORIALS:
            continue
        for hierarchy in ("parallel", "conditioned"):
            if pair := budget.pair("healthy", hierarchy):
                text = f"One level is as good as two {hierarchy} ones, matched in {budget.words}"
                yield Claim(of, text, "as good as", pair)


def _content(levels: Mapping[str, Any]) -> Iterator[Claim]:
    of = "Higher levels add no reconstructive content to what the lower ones hold"
    for model in ("parallel", "conditioned"):
        mine = [one for name, one in levels.items() if name.startswith(model)]
        if not mine:
            continue
        whole, without = (_refitted(mine, level) for level in (None, 1))
        pair = _over_runs(f"{model}, all levels", whole, f"{model}, without the top", without)
        yield Claim(
            of, f"Decoders trained anew gain nothing with the top of a {model} hierarchy", "no gain", pair
        )
        top = [
            next(worth["gain_db"] for worth in one["marginal_gain"] if worth["level"] == 1) for one in mine
        ]
        beside = [one["single_level_counterpart"]["gain_db"] for one in mine]
        pair = _over_runs(f"{model}, gain of the top", top, "gain on one level", beside)
        text = f"The top's bits bring a {model} hierarchy less than as many bits bring one level"
        yield Claim(of, text, "loss", pair)


def _refitted(levels: Sequence[Any], without: int | None) -> list[float]:
    return [next(d["psnr_db"] for d in one["refitted"] if d["without"] == without) for one in levels]


def _over_runs(a: str, one: Sequence[float], b: str, two: Sequence[float]) -> Pair:
    return Pair("levels", "", a, b, compare(one, two, margin=_MARGIN))
