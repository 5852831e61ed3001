"""The claims of the reference, each split into questions that a comparison of two arms answers."""

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
    """A part of a claim, and the comparison that answers it."""

    topic: str
    """The claim of the reference."""
    text: str
    """The part of it that the comparison answers."""
    kind: Kind
    """The kind of difference that is claimed."""
    pair: Pair
    """The comparison."""

    @property
    def answer(self) -> Answer:
        """The answer by the rule of `findings.rule`."""
        return answer(self.kind, self.pair.difference)


def claims(records: Mapping[str, Record], levels: Mapping[str, Any]) -> list[Claim]:
    """Return the claims that the available records can answer.

    Args:
        records: the studies by name.
        levels: the content of `levels.json` by arm and seed, such as `parallel-seed-10`.
    """
    answered: list[Claim] = []
    budgets = matchings(records)
    if _FACTORIAL in records:
        answered += [*_collapse(records[_FACTORIAL], budgets), *_remedies(records[_FACTORIAL])]
    if "dimension" in records:
        answered += _width(records["dimension"])
    answered += _parity(budgets)
    return [*answered, *_content(levels)]


def _collapse(record: Record, budgets: Sequence[Matching]) -> Iterator[Claim]:
    topic = "Collapse limits single-level models"
    for model, name in (("single", "one level"), ("parallel", "two parallel levels")):
        text = f"Init from data and replacement together are a gain with {name}"
        yield Claim(topic, text, "gain", record.pair(f"{model}-both", f"{model}-nothing"))
    for budget in budgets:
        if pair := budget.pair("naive", "parallel"):
            text = f"Without either, one level reconstructs worse than two; matched in {budget.description}"
            yield Claim(topic, text, "loss", pair)


def _remedies(record: Record) -> Iterator[Claim]:
    topic = "Init from data and the reset of inactive codes remedy collapse"
    for model, name in (("single", "one level"), ("parallel", "two parallel levels")):
        for arm, what in (("init", "Init from data"), ("replacement", "Replacement")):
            text = f"{what} alone is a gain with {name}"
            yield Claim(topic, text, "gain", record.pair(f"{model}-{arm}", f"{model}-nothing"))
        text = f"Init from data in addition to replacement is a gain with {name}"
        yield Claim(topic, text, "gain", record.pair(f"{model}-both", f"{model}-replacement"))


def _width(record: Record) -> Iterator[Claim]:
    topic = "Wide embeddings destabilise the quantization"
    for kind in ("naive", "healthy"):
        for wide, narrow in ((64, 4), (256, 4), (256, 16)):
            text = f"{kind.capitalize()} codes of {wide} dimensions reconstruct worse than codes of {narrow}"
            yield Claim(topic, text, "loss", record.pair(f"{kind}-{wide}-of-512", f"{kind}-{narrow}-of-512"))
    # The loss through width of healthy codebooks minus that of naive ones, seed by seed.
    healthy, naive = (
        record.pair(f"{kind}-256-of-512", f"{kind}-4-of-512").difference.per_seed
        for kind in ("healthy", "naive")
    )
    difference = compare(healthy, naive, margin=_MARGIN)
    pair = Pair(record.name, "study.json", "healthy (256 − 4)", "naive (256 − 4)", difference)
    text = "The loss from 4 to 256 dimensions is smaller with healthy codes than with naive ones"
    yield Claim(topic, text, "gain", pair)


def _parity(budgets: Sequence[Matching]) -> Iterator[Claim]:
    topic = "Matched and healthy, a single level reconstructs as well as a hierarchy"
    # Only studies on fresh seeds: the factorial studies were inspected during development.
    for budget in budgets:
        if budget.record.name in FACTORIALS:
            continue
        for hierarchy in ("parallel", "conditioned"):
            if pair := budget.pair("healthy", hierarchy):
                text = f"One level is as good as two {hierarchy} ones; matched in {budget.description}"
                yield Claim(topic, text, "as good as", pair)


def _content(levels: Mapping[str, Any]) -> Iterator[Claim]:
    topic = "Higher levels add no reconstructive content beyond the lower ones"
    for model in ("parallel", "conditioned"):
        runs = [run for name, run in levels.items() if name.startswith(model)]
        if not runs:
            continue
        with_all, without_top = (_refitted(runs, level) for level in (None, 1))
        pair = _over_runs(f"{model}, all levels", with_all, f"{model}, without the top", without_top)
        text = f"New decoders gain nothing from the top of a {model} hierarchy"
        yield Claim(topic, text, "no gain", pair)
        top = [next(gain["gain_db"] for gain in run["marginal_gain"] if gain["level"] == 1) for run in runs]
        single = [run["single_level_counterpart"]["gain_db"] for run in runs]
        pair = _over_runs(f"{model}, gain of the top", top, "gain on one level", single)
        text = f"The bits of the top add less to a {model} hierarchy than the same bits add to one level"
        yield Claim(topic, text, "loss", pair)


def _refitted(runs: Sequence[Any], without: int | None) -> list[float]:
    return [next(d["psnr_db"] for d in run["refitted"] if d["without"] == without) for run in runs]


def _over_runs(a: str, psnr_a: Sequence[float], b: str, psnr_b: Sequence[float]) -> Pair:
    return Pair("levels", "", a, b, compare(psnr_a, psnr_b, margin=_MARGIN))
