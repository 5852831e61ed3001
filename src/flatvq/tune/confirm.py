"""The winner against the incumbent: full length, fresh seeds, held-out images that the search never saw."""

from __future__ import annotations

from flatvq.recipe import ArmRecipe, MatchRecipe, StudyRecipe, TrialRecipe
from flatvq.tune.search import Asked
from flatvq.tune.space import changed

__all__ = ["INCUMBENT", "TUNED", "confirming_study"]

INCUMBENT, TUNED = "incumbent", "tuned"


def confirming_study(asked: Asked, values: dict[str, object], recipe: StudyRecipe) -> StudyRecipe:
    """Make the study of two arms that decides whether the winner is believed.

    Args:
        asked: the search.
        values: the winner's.
        recipe: the study that the incumbent is an arm of; its margin holds.

    Returns:
        A recipe that can be written down and run as any other; its arms match in bits, the grids being the
        same, and codebook sizes as near as whole numbers come.
    """
    incumbent = asked.incumbent
    tuned = changed(incumbent, values)
    return StudyRecipe(
        **{name: getattr(incumbent, name) for name in ("data", "model", "codebook", "train", "evaluate")},
        title=f"Does what was tuned for {asked.name} reconstruct better?",
        arms={INCUMBENT: ArmRecipe(), TUNED: _arm(tuned, incumbent)},
        seeds=asked.tune.confirm_seeds,
        match=MatchRecipe(reference=INCUMBENT, capacities=("bits",), tolerance=recipe.match.tolerance),
        margin_db=recipe.margin_db,
        compare=((TUNED, INCUMBENT),),
        workers=recipe.workers,
    )


def _arm(tuned: TrialRecipe, incumbent: TrialRecipe) -> ArmRecipe:
    """Write the sections that differ as an arm."""
    sections = ("model", "codebook", "train")
    before, after = incumbent.model_dump(mode="json"), tuned.model_dump(mode="json")
    return ArmRecipe(**{name: after[name] for name in sections if after[name] != before[name]})
