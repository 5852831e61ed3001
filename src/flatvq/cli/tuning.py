"""The steps of `flatvq tune`: search, confirm, write the results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatvq.cli import tables
from flatvq.cli.folders import default_folder, writable
from flatvq.cli.plan_tables import show_plan
from flatvq.cli.progress import study_progress
from flatvq.cli.tables import console
from flatvq.data.reasons import printable
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.files import write_text
from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.records import Comparison, Study, load_search
from flatvq.report import tuning_sentence, write_report, write_tuning
from flatvq.study import Outcome, StudyData, plan_study, planned_trial, run_look
from flatvq.study.devices import workers_for
from flatvq.train.identity import Identity

__all__ = ["search_and_confirm"]

_LINE_EVERY_SECONDS = 30.0


def search_and_confirm(
    name: str, arm: str, out: Path | None, storage: str | None, overrides: Sequence[str]
) -> bool:
    """Search hyper-parameters, confirm the winner, and write `tune.json`, `tuned.yaml` and the reports.

    Args:
        name: name or path of the recipe.
        arm: the incumbent; empty for the reference arm.
        out: folder of the search; None for the default.
        storage: URL of a database; None for a file in the folder.
        overrides: overrides of the recipe.

    Returns:
        Whether winner and incumbent could be compared; False if too many of their trials failed.

    Raises:
        FlatvqError: if the recipe, the arm or the storage is not valid, or no trial finished.
        StudyStopped: on Ctrl-C or SIGTERM.
    """
    try:
        from flatvq import tune
    except ImportError:
        raise MissingExtraError("searches", "Optuna", extra="tune") from None
    recipe = load_recipe(name, overrides)
    incumbent = planned_trial(recipe, arm or recipe.match.reference, recipe.seeds[0])
    space = recipe.tune.space or tune.space_of(incumbent)
    settings = tune.SearchSettings(f"{Path(name).stem}-{incumbent.arm}", incumbent, recipe.tune, space)
    tune.check_space(settings.base, space)
    folder = writable(out or default_folder("tunes", name, incumbent.arm))
    with tune.storage_errors(storage):
        search = tune.Search(settings, folder, tune.open_storage(folder, storage))
        search.run(workers_for(recipe, recipe.tune.trials), _Lines(recipe.tune.trials).show)
        best = tune.best_of(search)
        record = tune.tune_record(search)
    tune.write_record(folder, record, None)
    if best is None:
        last = record.trials[-1]
        state = {"pruned": "was pruned", "failed": "failed"}
        what = f"no trial of '{folder}' finished; the last one {state[last.state]} ({last.reason})"
        raise FlatvqError(what, "increase tune.length, train.steps or tune.trials")
    confirming = tune.confirming_study(settings, best.params, recipe)
    study = _confirm(confirming, folder / "confirm", search.identity)
    (comparison,) = study.comparisons or [None]
    tune.write_record(folder, record, comparison)
    _write_recipe(folder / "tuned.yaml", load_search(folder).confirmed)
    console.print(f"Report: {write_tuning(folder)}\nRecipe: {folder / 'tuned.yaml'}")
    return comparison is not None


def _confirm(recipe: StudyRecipe, folder: Path, identity: Identity) -> Study:
    plan = plan_study(recipe, "confirm")
    show_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    data = StudyData(plan)
    if mismatch := identity.mismatch(data.identity):
        raise mismatch.error(f"the search '{folder.parent}' was", "choose another --out")
    data.check(folder, "choose another --out")
    with study_progress(plan) as show:
        result = run_look(plan, plan.recipe.looks[-1], folder, data, show)
    tables.show_failures(result.outcomes)
    tables.show_study(result.study)
    write_report(folder)
    return result.study


def _write_recipe(path: Path, comparison: Comparison | None) -> None:
    """Write the recipe of the confirming study, with the result in the leading comment."""
    recipe = (path.parent / "confirm" / "recipe.yaml").read_text(encoding="utf-8")
    command = shlex.join(["flatvq", "train", printable(str(path)), "--arm", "tuned"])
    write_text(path, f"# {command}\n# Written by flatvq tune. {tuning_sentence(comparison)}\n{recipe}")


class _Lines:
    """Prints a line when a trial ends, and at least every half minute."""

    def __init__(self, trials: int) -> None:
        self.trials, self.last_time, self.ended = trials, 0.0, -1

    def show(self, search: Any, running: list[Outcome]) -> None:
        ended = search.ended
        if ended == self.ended and time.monotonic() - self.last_time < _LINE_EVERY_SECONDS:
            return
        self.last_time, self.ended = time.monotonic(), ended
        from flatvq.tune import best_of

        best = best_of(search)
        result = f"best {best.value:.3f} dB (trial {best.number})" if best else "none finished"
        steps = ", ".join(f"step {outcome.step} of {outcome.steps}" for outcome in running)
        console.print(f"{ended} of {self.trials} trials ended; {result}; running: {steps or 'none'}")
