"""The answer of the page: what the studies say about one level, in sentences and in a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from findings.rates import ARCHITECTURES
from findings.records import Record, Trial, with_interval

__all__ = [
    "Answer",
    "answer_table",
    "collapsed_hierarchies",
    "earlier_designs",
    "summary",
    "unsettled",
]


@dataclass(frozen=True)
class Answer:
    """The comparisons of one level with each hierarchy in one study."""

    codebooks: str
    """`healthy` or `naive`."""
    settings: str
    """`shared` by all architectures, or `tuned` for each."""
    record: Record
    """The study."""
    single: str
    """The arm with one level."""
    hierarchies: tuple[str, ...]
    """The arms with a hierarchy, whose names begin with the architecture."""

    def comparisons(self) -> dict[str, dict[str, Any]]:
        """Return the comparison with each hierarchy, by architecture."""
        return {arm.split("-")[0]: self.record.comparison(self.single, arm) for arm in self.hierarchies}


def summary(answers: Sequence[Answer]) -> str:
    """Write which hierarchies one level is better and worse than, at which sizes, and by how much.

    Args:
        answers: studies with the same codebooks and settings.
    """
    separated = {
        name
        for answer in answers
        for name, one in answer.comparisons().items()
        if one["verdict"] in ("better", "worse")
    }
    names = dict.fromkeys(name for answer in answers for name in answer.comparisons())
    unseparated = [f"*{name}*" for name in names if name not in separated]
    predicates = [
        f"reconstructs {verdict} than {places}, by {_range_of(answers, verdict)}"
        for verdict in ("better", "worse")
        if (places := _places(answers, verdict))
    ]
    sentences = [f"One level {', and '.join(predicates)}."] if predicates else []
    if unseparated:
        sentences.append(f"No study shows a difference from {_enumerated(unseparated)}.")
    condition = f"{answers[0].codebooks.capitalize()} codebooks, {answers[0].settings} settings"
    return f"**{condition}.** {' '.join(sentences)}"


def _places(answers: Sequence[Answer], verdict: str) -> str:
    """Return the hierarchies against which one level has a verdict, together if at the same sizes."""
    sizes: dict[str, list[str]] = {}
    for answer in answers:
        for name, comparison in answer.comparisons().items():
            if comparison["verdict"] == verdict:
                sizes.setdefault(name, []).append(str(answer.record.size))
    names: dict[str, list[str]] = {}
    for name, each in sizes.items():
        names.setdefault(_enumerated(each), []).append(f"*{name}*")
    return _enumerated(f"{_enumerated(group)} at {each} px" for each, group in names.items())


def _range_of(answers: Sequence[Answer], verdict: str) -> str:
    """Return the least and the largest size of the differences with a verdict."""
    sizes = sorted(
        {
            f"{abs(one['difference']):.2f}"
            for answer in answers
            for one in answer.comparisons().values()
            if one["verdict"] == verdict
        },
        key=float,
    )
    return f"{' to '.join(dict.fromkeys((sizes[0], sizes[-1])))} dB"


def answer_table(answers: Iterable[Answer]) -> str:
    """Return one row for each study: the verdicts on one level, and its PSNR differences."""
    headings = [f"against *{name}*" for name in ARCHITECTURES[1:]]
    lines = [
        f"| codebooks | settings | size | steps | seeds | {' | '.join(headings)} |",
        f"|---|---|---|---|---|{'---|' * len(headings)}",
    ]
    for answer in answers:
        record, comparisons = answer.record, answer.comparisons()
        (seeds,) = {comparison["seeds"] for comparison in comparisons.values()}
        cells = [
            answer.codebooks,
            answer.settings,
            f"[{record.size} px](../results/{record.name}/study.json)",
            f"{record.setting('train', 'steps'):,}",
            str(seeds),
            *(_verdict_and_difference(comparisons.get(name)) for name in ARCHITECTURES[1:]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict_and_difference(comparison: dict[str, Any] | None) -> str:
    if comparison is None:
        return "–"
    difference = with_interval(comparison["difference"], comparison["interval90"])
    return f"**{comparison['verdict']}**, {difference}"


def collapsed_hierarchies(answers: Iterable[Answer]) -> list[str]:
    """Write how many healthy hierarchies of each arm ended with a collapsed level, one text for each arm.

    The difference of one level from the other seeds is in parentheses.
    """
    texts = (
        _collapsed_text(answer, arm)
        for answer in answers
        if answer.codebooks == "healthy"
        for arm in answer.hierarchies
    )
    return [text for text in texts if text]


def _collapsed_text(answer: Answer, arm: str) -> str:
    record, trials = answer.record, answer.record.trials(arm)
    alive = [_psnr(trial) for trial in trials if not _has_collapsed(trial)]
    if len(alive) == len(trials):
        return ""
    place = f"*{arm.split('-')[0]}* at {record.size} px{' (tuned)' if answer.settings == 'tuned' else ''}"
    counts = f"{len(trials) - len(alive)} of {len(trials)} seeds"
    if not alive:
        return f"{place} in {counts}"
    difference = record.mean(answer.single, _psnr) - fmean(alive)
    return f"{place} in {counts} ({with_interval(difference, None)} without them)"


def _has_collapsed(trial: Trial) -> bool:
    return any(level["collapse"] for level in trial["levels"])


def _psnr(trial: Trial) -> float:
    return float(trial["psnr_db"])


def earlier_designs(records: Iterable[Record]) -> str:
    """Write which studies replaced an earlier design, and which arms or keys differ; empty if none did."""
    return _enumerated(
        f"[{record.name}](../results/{record.name}/study.json) replaced an earlier design "
        f"{_after(len(earlier['looks']))} (changed: {_enumerated(_changes(earlier['design'], record))})"
        for record in records
        for earlier in record.study["earlier_designs"]
    )


def _after(looks: int) -> str:
    return f"after {looks} look{'s' if looks > 1 else ''}" if looks else "before its first look"


def _changes(earlier: dict[str, Any], record: Record) -> list[str]:
    design = record.study["design"]
    keys = [key for key in design if key not in ("arms", "level") and design[key] != earlier.get(key)]
    arms = sorted(
        name
        for name in design["arms"].keys() | earlier["arms"].keys()
        if design["arms"].get(name) != earlier["arms"].get(name)
    )
    return [*keys, *(f"the arm *{name}*" for name in arms)]


def unsettled(records: Iterable[Record]) -> str:
    """Name the studies that ended before their primary comparison was settled; empty if there are none."""
    return _enumerated(
        f"[{record.name}](../results/{record.name}/study.json) after {record.seeds} seeds"
        for record in records
        for comparison in record.study["comparisons"]
        if comparison["primary"] and comparison["verdict"] == "inconclusive"
    )


def _enumerated(items: Iterable[str] | Sequence[str]) -> str:
    """Join items with commas and a final `and`.

    Example:
        >>> _enumerated(["a", "b", "c"])
        'a, b and c'
    """
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last
