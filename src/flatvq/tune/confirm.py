"""The study that confirms the winner of a search.

It compares the winner to the incumbent at full length, with new seeds, on held-out images that the search did
not use.
"""

from __future__ import annotations

from flatvq.recipe import ArmRecipe, MatchRecipe, StudyRecipe, TrialRecipe
from flatvq.tune.settings import SearchSettings
from flatvq.tune.space import with_values

__all__ = ["INCUMBENT", "TUNED", "confirming_study"]

INCUMBENT, TUNED = "incumbent", "tuned"


def confirming_study(settings: SearchSettings, values: dict[str, object], recipe: StudyRecipe) -> StudyRecipe:
    """Make the study of two arms that decides whether the winner replaces the incumbent.

    Args:
        settings: the settings of the search.
        values: the values of the winner.
        recipe: the study to which the incumbent belongs. Its metric, margin and interval are used.

    Returns:
        The recipe of the study. Its arms have the same grids, and the same bits up to the rounding of
        codebook sizes to integers.
    """
    incumbent = settings.incumbent
    tuned = with_values(incumbent, values)
    return StudyRecipe(
        **{name: getattr(incumbent, name) for name in ("data", "model", "codebook", "train", "evaluate")},
        title=f"Does the tuned {settings.name} reconstruct better?",
        arms={INCUMBENT: ArmRecipe(), TUNED: _arm(tuned, incumbent)},
        seeds=settings.tune.confirm_seeds,
        match=MatchRecipe(reference=INCUMBENT, capacities=("bits",), tolerance=recipe.match.tolerance),
        metric=recipe.metric,
        margin=recipe.margin,
        interval=recipe.interval,
        compare=((TUNED, INCUMBENT),),
        workers=recipe.workers,
        cluster=recipe.cluster,
    )


def _arm(tuned: TrialRecipe, incumbent: TrialRecipe) -> ArmRecipe:
    """Return an arm with the sections of the recipe that differ from the incumbent's."""
    sections = ("model", "codebook", "train")
    before, after = incumbent.model_dump(mode="json"), tuned.model_dump(mode="json")
    return ArmRecipe(**{name: after[name] for name in sections if after[name] != before[name]})
