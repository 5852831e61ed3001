"""The verdict of a study in a few sentences, derived only from its comparisons and collapsed trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flatvq import records
from flatvq.recipe import Treatment
from flatvq.study.collapse import count_relapses
from flatvq.study.plan import Comparison, Plan
from flatvq.study.statistics import SEEDS_CAP, Difference

__all__ = ["Compared", "study_verdict"]


# More comparisons of one kind are counted instead of listed. All of them are in the table of the report.
_MAX_CLAUSES = 4

_CONDITIONS: dict[Treatment, str] = {
    "naive": "With naive codebooks",
    "init": "With codebooks initialized from data and not replaced",
    "replacement": "With codebooks replaced and not initialized from data",
    "healthy": "With healthy codebooks",
}


@dataclass(frozen=True)
class Compared:
    """A comparison and its result."""

    comparison: Comparison
    difference: Difference

    def to_record(self) -> records.Comparison:
        """Return the record that `study.json` holds."""
        result = self.difference
        return records.Comparison(
            question=self.comparison.question,
            a=self.comparison.a,
            b=self.comparison.b,
            metric="psnr_db",
            difference=result.mean,
            interval90=result.interval90,
            margin=result.margin,
            seeds=result.seeds,
            per_seed=result.per_seed,
            p_equivalence=result.p_equivalence,
            verdict=result.verdict,
            seeds_needed=result.seeds_needed,
        )


def study_verdict(
    plan: Plan, compared: Sequence[Compared], trials: Sequence[records.Trial] = ()
) -> records.Verdict:
    """Summarize the comparisons of the hierarchy, naive codebooks first, and those that the recipe names.

    Healthy arms with collapsed trials are named too.

    Args:
        plan: the study.
        compared: its comparisons.
        trials: its trials.

    Returns:
        The sentences, and the verdict of the hierarchy comparison with naive and with healthy codebooks. A
        verdict applies to the arm with fewer levels. It is None unless there is exactly one such comparison.
    """
    by_treatment = {
        treatment: [
            result
            for result in compared
            if result.comparison.question == "hierarchy"
            and plan.arm(result.comparison.a).treatment == treatment
        ]
        for treatment in _CONDITIONS
    }
    sentences = [
        sentence
        for treatment, results in by_treatment.items()
        for sentence in _sentences(_CONDITIONS[treatment], results)
    ]
    named = [result for result in compared if result.comparison.question == "asked"]
    sentences += _sentences("As asked", named)
    naive, healthy = by_treatment["naive"], by_treatment["healthy"]
    arms = dict.fromkeys(arm for result in healthy for arm in (result.comparison.a, result.comparison.b))
    sentences += [_relapse(arm, *count) for arm in arms if (count := count_relapses(trials, arm))[0]]
    if len(naive) == len(healthy) == 1:
        sentences.append(_conclusion(naive[0].difference, healthy[0].difference))
    return records.Verdict(
        sentence=" ".join(sentences) or "No pair of arms could be compared.",
        naive=_only_verdict(naive),
        healthy=_only_verdict(healthy),
    )


def _only_verdict(compared: list[Compared]) -> str | None:
    return compared[0].difference.verdict if len(compared) == 1 else None


def _sentences(condition: str, compared: Sequence[Compared]) -> list[str]:
    """Write a sentence for each of a few comparisons, or one sentence that counts the verdicts of many."""
    if len(compared) <= _MAX_CLAUSES:
        return [_sentence(condition, result) for result in compared]
    verdicts = Counter(result.difference.verdict for result in compared)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    return [f"{condition}, of {len(compared)} comparisons: {counts}."]


def _sentence(condition: str, compared: Compared) -> str:
    a, b, result = compared.comparison.a, compared.comparison.b, compared.difference
    statements = {
        "equivalent": f"{a} is equivalent to {b}",
        "better": f"{a} reconstructs better than {b}",
        "worse": f"{a} reconstructs worse than {b}",
        "inconclusive": f"{a} against {b} is inconclusive",
    }
    interval = result.interval90
    spread = f"90 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    seeds = f"{result.seeds} seed{'s' if result.seeds != 1 else ''}"
    measured = f"{result.mean:+.2f} dB, {spread}, margin {result.margin:g} dB, {seeds}"
    needed = f"; {_seeds_needed(result.seeds_needed)}" if result.seeds_needed else ""
    return f"{condition}, {statements[result.verdict]} ({measured}{needed})."


def _relapse(arm: str, collapsed: int, trained: int) -> str:
    return f"Even so, {arm} ended with a collapsed level in {collapsed} of {trained} trials."


def _seeds_needed(seeds: int) -> str:
    return f"about {seeds} seeds would settle it" if seeds < SEEDS_CAP else "more seeds would not settle it"


def _conclusion(naive: Difference, healthy: Difference) -> str:
    """Return the conclusion that the verdicts with naive and with healthy codebooks support together."""
    if healthy.verdict == "inconclusive":
        return "Whether the hierarchy helps once collapse is prevented is open: more seeds are needed."
    if healthy.verdict == "worse":
        return "The hierarchy's advantage is more than collapse: it remains when collapse is prevented."
    if naive.verdict == "worse":
        return "The hierarchy's advantage went away with the collapse."
    return "Once collapse is prevented, the hierarchy shows no advantage."
