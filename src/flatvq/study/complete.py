"""A whole study in one call: plan, train, compare, and write the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.records import Study
from flatvq.study.data import StudyData
from flatvq.study.design import fix_design
from flatvq.study.outcome import StudyProgress
from flatvq.study.plan import plan_study
from flatvq.study.sequential import look_to_run, run_look

__all__ = ["run_study"]


def run_study(
    recipe: StudyRecipe | str | Path,
    folder: str | Path,
    *,
    watch: Callable[[StudyProgress], None] | None = None,
    until_settled: bool = True,
) -> Study:
    """Train the arms look by look, compare them, and write `study.json`.

    Trials that are already finished in the folder are kept. After an interruption, the same call resumes the
    study. This is `flatvq study` in Python, without the output and without the report, which
    `flatvq.write_report` writes from the folder. Call it from the main thread: it handles Ctrl-C and SIGTERM
    while trials run.

    Args:
        recipe: the study, the name of a shipped recipe, or the path of a recipe file.
        folder: the folder of the study; created if it does not exist.
        watch: called about twice a second with the progress of the trials of a look.
        until_settled: go on until the primary comparison is settled, a trial fails or no look is left. False:
            run the next look only.

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
    path = Path(folder)
    study_recipe = recipe if isinstance(recipe, StudyRecipe) else load_recipe(str(recipe))
    plan = plan_study(study_recipe, path.name if isinstance(recipe, StudyRecipe) else Path(recipe).stem)
    data = StudyData(plan)
    path.mkdir(parents=True, exist_ok=True)
    data.check(path, "choose another folder, or run `flatvq study` with --retrain")
    fix_design(plan, path)
    result = run_look(plan, look_to_run(plan, path), path, data, watch or _ignore)
    while until_settled and not result.failed and (look := result.study.next_look):
        result = run_look(plan, look, path, data, watch or _ignore)
    return result.study


def _ignore(progress: StudyProgress) -> None:
    """Show nothing."""
