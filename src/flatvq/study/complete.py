"""A whole study in one call: plan, train, compare, and write the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.records import Study
from flatvq.study.data import StudyData
from flatvq.study.outcome import StudyProgress
from flatvq.study.plan import plan_study
from flatvq.study.results import write_study
from flatvq.study.runner import run_trials

__all__ = ["run_study"]


def run_study(
    recipe: StudyRecipe | str | Path,
    folder: str | Path,
    *,
    watch: Callable[[StudyProgress], None] | None = None,
) -> Study:
    """Train every arm with every seed, compare the arms, and write `study.json`.

    Trials that are already finished in the folder are kept. After an interruption, the same call resumes the
    study. This is `flatvq study` in Python, without the output and without the report, which
    `flatvq.write_report` writes from the folder. Call it from the main thread: it handles Ctrl-C and SIGTERM
    while trials run.

    Args:
        recipe: the study, the name of a shipped recipe, or the path of a recipe file.
        folder: the folder of the study; created if it does not exist.
        watch: called about twice a second with the progress of all trials.

    Returns:
        The content of `study.json`. A trial that failed has the status `failed` and an
        `error`; the others are compared without it.

    Raises:
        FlatvqError: if the recipe is not valid, its arms do not match, its images cannot be opened, or the
            folder holds trials that were trained with other images or another version.
        StudyStopped: on Ctrl-C or SIGTERM, after each running trial has written a checkpoint.

    Example:
        >>> recipe = load_recipe("photographs", ["train.steps=20", "seeds=[0, 1]"])
        >>> study = run_study(recipe, "studies/short")  # doctest: +SKIP
        >>> study.verdict.sentence  # doctest: +SKIP
        'With healthy codebooks, ...'
    """
    place = Path(folder)
    study_recipe = recipe if isinstance(recipe, StudyRecipe) else load_recipe(str(recipe))
    plan = plan_study(study_recipe, place.name if isinstance(recipe, StudyRecipe) else Path(recipe).stem)
    data = StudyData(plan)
    place.mkdir(parents=True, exist_ok=True)
    data.check(place, "choose another folder, or run `flatvq study` with --retrain")
    return write_study(plan, run_trials(plan, place, data, watch or _ignore), data, place)


def _ignore(progress: StudyProgress) -> None:
    """Show nothing."""
