"""The answer of the page: what the studies say about one level, in sentences and in a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from findings.records import Record, with_interval

__all__ = ["Answer", "answer_sentence", "answer_table", "collapsed_hierarchies", "unsettled"]

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

    def comparisons(self) -> list[dict[str, Any]]:
        """Return the comparison with each hierarchy."""
        return [self.record.comparison(self.single, arm) for arm in self.hierarchies]


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
    condition = f"With {answer.codebooks} codebooks at {answer.record.size} px"
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


def collapsed_hierarchies(answers: Iterable[Answer]) -> str:
    """Write how many healthy hierarchies of each arm ended with a collapsed level; empty if none did."""
    counts = []
    for answer in answers:
        if answer.codebooks == "healthy":
            for arm in answer.hierarchies:
                trials = answer.record.trials(arm)
                collapsed = sum(any(level["collapse"] for level in trial["levels"]) for trial in trials)
                if collapsed:
                    seeds = f"{collapsed} of {len(trials)} seeds"
                    counts.append(f"*{arm.split('-')[0]}* at {answer.record.size} px in {seeds}")
    return _enumerated(counts)


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
