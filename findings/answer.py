"""The answer of the page: what the studies say about one level, in sentences and in a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from findings.records import Record, Trial, with_interval

__all__ = [
    "Answer",
    "answer_sentence",
    "answer_table",
    "collapsed_curves",
    "collapsed_hierarchies",
    "earlier_designs",
    "summary",
    "unsettled",
]

# The predicate of each verdict, in the order of a sentence.
_PREDICATES = {
    "better": "reconstructs better than {}",
    "worse": "reconstructs worse than {}",
    "equivalent": "is equivalent to {}",
    "not worse": "is not worse than {} by more than the margin",
    "not better": "is not better than {} by more than the margin",
    "inconclusive": "has no verdict against {}",
}


@dataclass(frozen=True)
class Answer:
    """The comparisons of one level with each hierarchy in one study."""

    codebooks: str
    """`healthy` or `naive`."""
    record: Record
    """The study."""
    single: str
    """The arm with one level."""
    hierarchies: tuple[str, ...]
    """The arms with a hierarchy, whose names begin with the architecture."""
    addition: str = ""
    """What else the arms have in common, after the word codebooks in a sentence."""

    def comparisons(self) -> list[dict[str, Any]]:
        """Return the comparison with each hierarchy."""
        return [self.record.comparison(self.single, arm) for arm in self.hierarchies]


def summary(answers: Sequence[Answer]) -> str:
    """Write which hierarchies reconstruct better than one level, which worse, and at which sizes.

    Args:
        answers: studies with the same kind of codebooks.
    """
    better, worse = _places(answers, "worse"), _places(answers, "better")
    names = dict.fromkeys(one["b"].split("-")[0] for answer in answers for one in answer.comparisons())
    open_names = [f"*{name}*" for name in names if name not in {**better, **worse}]
    condition = f"With {answers[0].codebooks} codebooks and shared settings"
    sentences = [
        f"{condition}, these hierarchies reconstruct better than one level: "
        f"{_enumerated([*better.values()])}."
        if better
        else f"{condition}, no study on this page shows that a hierarchy reconstructs better than one level."
    ]
    if worse:
        sentences.append(f"One level reconstructs better than {_enumerated([*worse.values()])}.")
    if open_names:
        sentences.append(f"No such study shows a difference between one level and {_enumerated(open_names)}.")
    return " ".join(sentences)


def _places(answers: Sequence[Answer], verdict: str) -> dict[str, str]:
    """Return the hierarchies against which one level has a verdict, each with the sizes."""
    sizes: dict[str, dict[str, None]] = {}
    for answer in answers:
        for comparison in answer.comparisons():
            if comparison["verdict"] == verdict:
                name = comparison["b"].split("-")[0]
                sizes.setdefault(name, {})[str(answer.record.size)] = None
    return {name: f"*{name}* at {_enumerated([*each])} px" for name, each in sizes.items()}


def answer_sentence(answer: Answer) -> str:
    """Write the verdicts of a study in one sentence, equal verdicts together."""
    arms: dict[str, list[str]] = {verdict: [] for verdict in _PREDICATES}
    for comparison in answer.comparisons():
        name = comparison["b"].split("-")[0]
        arms[comparison["verdict"]].append(f"*{name}* ({with_interval(comparison['difference'], None)})")
    predicates = [
        predicate.format(_enumerated(arms[verdict]))
        for verdict, predicate in _PREDICATES.items()
        if arms[verdict]
    ]
    condition = f"With {answer.codebooks} codebooks{answer.addition} at {answer.record.size} px"
    return f"{condition}, one level {', and '.join(predicates)}."


def answer_table(answers: Iterable[Answer]) -> str:
    """Return one row for each study: the verdicts on one level, and its PSNR differences."""
    lines = [
        "| codebooks | size | steps | seeds "
        "| against *parallel* | against *conditioned* | against *residual* |",
        "|---|---|---|---|---|---|---|",
    ]
    for answer in answers:
        record, comparisons = answer.record, answer.comparisons()
        (seeds,) = {comparison["seeds"] for comparison in comparisons}
        cells = [
            answer.codebooks,
            f"[{record.size} px](../results/{record.name}/study.json)",
            f"{record.setting('train', 'steps'):,}",
            str(seeds),
            *(
                f"**{one['verdict']}**, {with_interval(one['difference'], one['interval90'])}"
                for one in comparisons
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def collapsed_hierarchies(answers: Iterable[Answer]) -> list[str]:
    """Write how many healthy hierarchies of each arm ended with a collapsed level, one text for each arm.

    The difference of one level from the other seeds is in parentheses.
    """
    counts = []
    for answer in answers:
        if answer.codebooks == "healthy":
            one_level = answer.record.mean(answer.single, _psnr)
            for arm in answer.hierarchies:
                alive = [_psnr(trial) for trial in answer.record.trials(arm) if not _has_collapsed(trial)]
                if seeds := _collapsed_seeds(answer.record, arm):
                    others = (
                        f" ({with_interval(one_level - fmean(alive), None)} without them)" if alive else ""
                    )
                    counts.append(f"*{arm.split('-')[0]}* at {answer.record.size} px in {seeds}{others}")
    return counts


def collapsed_curves(records: Iterable[Record]) -> list[str]:
    """Write in how many seeds each arm of a curve ended with a collapsed level, one text for each arm."""
    return [
        f"*{arm}* at {record.size} px in {seeds}"
        for record in records
        for arm in record.arms
        if (seeds := _collapsed_seeds(record, arm))
    ]


def _collapsed_seeds(record: Record, arm: str) -> str:
    trials = record.trials(arm)
    collapsed = sum(map(_has_collapsed, trials))
    return f"{collapsed} of {len(trials)} seeds" if collapsed else ""


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
