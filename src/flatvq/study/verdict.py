"""The story in a sentence, put together from the comparisons and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flatvq.recipe import Treatment
from flatvq.study.collapse import relapses
from flatvq.study.plan import Comparison, Plan
from flatvq.study.statistics import SEEDS_CAP, Difference

__all__ = ["Compared", "StudyVerdict", "study_verdict"]


# More would be no sentence any more; all of them are in the table.
_MOST_CLAUSES = 4

_CONDITIONS: dict[Treatment, str] = {
    "naive": "With naive codebooks",
    "init": "With init from data and no dead-code replacement",
    "replacement": "With dead-code replacement and random init",
    "healthy": "With healthy codebooks",
}


@dataclass(frozen=True)
class Compared:
    """A comparison that was made."""

    comparison: Comparison
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """Return what `study.json` holds of it."""
        found = self.difference
        return {
            "question": self.comparison.question,
            "a": self.comparison.a,
            "b": self.comparison.b,
            "metric": "psnr_db",
            "difference": found.mean,
            "interval90": found.interval90,
            "margin": found.margin,
            "seeds": found.seeds,
            "per_seed": found.per_seed,
            "p_equivalence": found.p_equivalence,
            "verdict": found.verdict,
            "seeds_needed": found.seeds_needed,
        }


@dataclass(frozen=True)
class StudyVerdict:
    """What the study found."""

    sentence: str
    naive: str | None
    """Verdict of the hierarchy comparison with naive codebooks, told of the arm with fewer levels; None
    if there is not exactly one."""
    healthy: str | None
    """The same with healthy codebooks."""


def study_verdict(
    plan: Plan, compared: Sequence[Compared], trials: Sequence[Mapping[str, Any]] = ()
) -> StudyVerdict:
    """Tell what the comparisons of the hierarchy say, naive first, and which healthy arms collapsed even so.

    Args:
        plan: the study.
        compared: its comparisons.
        trials: as `study.json` holds them.
    """
    asked = [one for one in compared if one.comparison.question == "hierarchy"]
    hierarchy = {
        treatment: [one for one in asked if plan.arm(one.comparison.a).treatment == treatment]
        for treatment in _CONDITIONS
    }
    told = [clause for treatment, made in hierarchy.items() for clause in _told(_CONDITIONS[treatment], made)]
    naive, healthy = hierarchy["naive"], hierarchy["healthy"]
    told += _told("As asked", [one for one in compared if one.comparison.question == "asked"])
    treated = dict.fromkeys(arm for one in healthy for arm in (one.comparison.a, one.comparison.b))
    told += [_relapsed(arm, *count) for arm in treated if (count := relapses(trials, arm))[0]]
    if len(naive) == len(healthy) == 1:
        told.append(_moral(naive[0].difference, healthy[0].difference))
    sentence = " ".join(told) or "No pair of arms could be compared."
    return StudyVerdict(sentence, _only(naive), _only(healthy))


def _only(compared: list[Compared]) -> str | None:
    return compared[0].difference.verdict if len(compared) == 1 else None


def _told(condition: str, compared: Sequence[Compared]) -> list[str]:
    """Tell a few comparisons one by one, and count more."""
    if len(compared) <= _MOST_CLAUSES:
        return [_clause(condition, one) for one in compared]
    verdicts = Counter(one.difference.verdict for one in compared)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    return [f"{condition}, of {len(compared)} comparisons: {counts}."]


def _clause(condition: str, compared: Compared) -> str:
    a, b, found = compared.comparison.a, compared.comparison.b, compared.difference
    words = {
        "equivalent": f"{a} is equivalent to {b}",
        "better": f"{a} reconstructs better than {b}",
        "worse": f"{a} reconstructs worse than {b}",
        "inconclusive": f"{a} against {b} is inconclusive",
    }
    interval = found.interval90
    spread = f"90 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    seeds = f"{found.seeds} seed{'s' if found.seeds != 1 else ''}"
    measured = f"{found.mean:+.2f} dB, {spread}, margin {found.margin:g} dB, {seeds}"
    more = f"; {_needed(found.seeds_needed)}" if found.seeds_needed else ""
    return f"{condition}, {words[found.verdict]} ({measured}{more})."


def _relapsed(arm: str, collapsed: int, trained: int) -> str:
    return f"Even so, {arm} ended with a collapsed level in {collapsed} of {trained} trials."


def _needed(seeds: int) -> str:
    return f"about {seeds} seeds would settle it" if seeds < SEEDS_CAP else "more seeds would not settle it"


def _moral(naive: Difference, healthy: Difference) -> str:
    """Draw the conclusion that the two verdicts carry, and no other."""
    if healthy.verdict == "inconclusive":
        return "Whether the hierarchy helps once collapse is prevented is open: more seeds are needed."
    if healthy.verdict == "worse":
        return "The hierarchy's advantage is more than collapse: it remains when collapse is prevented."
    if naive.verdict == "worse":
        return "The hierarchy's advantage went away with the collapse."
    return "Once collapse is prevented, the hierarchy shows no advantage."
