"""The comparisons of a study: pairs that differ in one thing, and interactions of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from flatvq.recipe import StudyRecipe, Treatment
from flatvq.study.arms import PlannedArm

__all__ = ["Comparison", "Question", "comparisons_of"]

Question = Literal["hierarchy", "intervention", "asked", "interaction"]

# The number of measures against collapse in each treatment.
_MEASURES: dict[Treatment, int] = {"naive": 0, "init": 1, "replacement": 1, "healthy": 2}


@dataclass(frozen=True)
class Comparison:
    """A planned comparison: `a` minus `b`, or the interaction (`a` - `b`) - (`c` - `d`)."""

    question: Question
    a: str
    b: str
    c: str = ""
    d: str = ""
    primary: bool = False

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, two or four."""
        return tuple(filter(None, (self.a, self.b, self.c, self.d)))

    @property
    def weights(self) -> tuple[int, ...]:
        """The weight of each arm in the difference."""
        return (1, -1, -1, 1)[: len(self.arms)]


def comparisons_of(recipe: StudyRecipe, arms: tuple[PlannedArm, ...]) -> tuple[Comparison, ...]:
    """Return the comparisons: the primary one first, then pairs by question, then interactions."""
    pairs = _pairs(recipe, arms)
    primary = tuple(recipe.primary) or _primary_pair(pairs, arms)
    if recipe.primary and primary not in [(pair.a, pair.b) for pair in pairs]:
        a, b = primary
        pairs.insert(0, Comparison(_question(arms, a, b) or "asked", a, b))
    marked = [replace(pair, primary=(pair.a, pair.b) == primary) for pair in pairs]
    marked.sort(key=lambda pair: not pair.primary)
    return (*marked, *_interactions(recipe, pairs, arms))


def _pairs(recipe: StudyRecipe, arms: tuple[PlannedArm, ...]) -> list[Comparison]:
    if recipe.compare:
        return [Comparison(_question(arms, a, b) or "asked", a, b) for a, b in recipe.compare]
    comparisons = []
    for first, second in combinations(arms, 2):
        question = _question(arms, first.name, second.name)
        if question is not None:
            a, b = _ordered(first, second, question)
            comparisons.append(Comparison(question, a.name, b.name))
    return sorted(comparisons, key=lambda comparison: comparison.question)


def _primary_pair(pairs: Sequence[Comparison], arms: tuple[PlannedArm, ...]) -> tuple[str, ...]:
    """Return the first pair of healthy arms with different models, or else the first pair."""
    healthy = {arm.name for arm in arms if arm.healthy}
    hierarchy = [pair for pair in pairs if pair.question == "hierarchy" and {pair.a, pair.b} <= healthy]
    return next(((pair.a, pair.b) for pair in (*hierarchy, *pairs)), ())


def _interactions(
    recipe: StudyRecipe, pairs: Sequence[Comparison], arms: tuple[PlannedArm, ...]
) -> list[Comparison]:
    """Return the named interactions; by default, between the model and the measures against collapse.

    (a healthy - a naive) - (b healthy - b naive) is how much more model a gains by the measures than model b.
    It equals the difference of the two hierarchy comparisons, so it says whether the measures changed the
    advantage of a hierarchy.
    """
    if recipe.interactions or recipe.compare:
        return [Comparison("interaction", *names) for names in recipe.interactions]
    by_name = {arm.name: arm for arm in arms}
    hierarchy = {(pair.a, pair.b): pair for pair in pairs if pair.question == "hierarchy"}
    gains = [
        pair
        for pair in pairs
        if pair.question == "intervention"
        and by_name[pair.a].healthy
        and by_name[pair.b].treatment == "naive"
    ]
    return [
        Comparison("interaction", first.a, first.b, second.a, second.b)
        for first in gains
        for second in gains
        if (first.a, second.a) in hierarchy and (first.b, second.b) in hierarchy
    ]


def _question(arms: tuple[PlannedArm, ...], a: str, b: str) -> Question | None:
    """Return the question that a pair of arms answers; None if the arms differ in more than one section."""
    first, second = (next(arm.recipe for arm in arms if arm.name == name) for name in (a, b))
    if (first.data, first.train) != (second.data, second.train):
        return None
    if first.codebook == second.codebook and first.model != second.model:
        return "hierarchy"
    if first.model == second.model and first.codebook != second.codebook:
        return "intervention"
    return None


def _ordered(first: PlannedArm, second: PlannedArm, question: Question) -> tuple[PlannedArm, PlannedArm]:
    """Put the model with fewer levels, or the arm with more measures against collapse, first.

    The difference, first minus second, is then the gain of that model or of the added measure.
    """
    if question == "hierarchy":
        swap = len(first.recipe.model.levels) > len(second.recipe.model.levels)
    else:
        swap = _MEASURES[second.treatment] > _MEASURES[first.treatment]
    return (second, first) if swap else (first, second)
