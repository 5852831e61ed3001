"""The steps of `flatvq tune`: search, confirm, write the results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatvq.cli import tables
from flatvq.cli.folders import default_folder, writable
from flatvq.cli.progress import study_progress
from flatvq.cli.tables import console
from flatvq.data.reasons import printable
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.files import write_text
from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.records import Comparison, load_search
from flatvq.report import tuning_sentence, write_report, write_tuning
from flatvq.study import Outcome, StudyData, plan_study, planned_trial, run_trials, write_study
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
    asked = tune.Asked(f"{Path(name).stem}-{incumbent.arm}", incumbent, recipe.tune, space)
    tune.check_space(asked.base, space)
    folder = writable(out or default_folder("tunes", name, incumbent.arm))
    with tune.telling_failures(storage):
        search = tune.Search(asked, folder, tune.open_storage(folder, storage))
        search.run(workers_for(recipe, recipe.tune.trials), _Lines(recipe.tune.trials).show)
        best = tune.best_of(search)
        record = tune.tune_record(search)
    tune.write_record(folder, record, None)
    if best is None:
        last = record["trials"][-1]
        state = {"pruned": "was pruned", "failed": "failed"}
        what = f"no trial of '{folder}' finished; the last one {state[last['state']]} ({last['reason']})"
        raise FlatvqError(what, "increase tune.length, train.steps or tune.trials")
    study = _confirm(tune.confirming_study(asked, best.params, recipe), folder / "confirm", search.identity)
    (comparison,) = study["comparisons"] or [None]
    tune.write_record(folder, record, comparison)
    _write_recipe(folder / "tuned.yaml", load_search(folder).confirmed)
    console.print(f"Report: {write_tuning(folder)}\nRecipe: {folder / 'tuned.yaml'}")
    return comparison is not None


def _confirm(recipe: StudyRecipe, folder: Path, identity: Identity) -> dict[str, Any]:
    plan = plan_study(recipe, "confirm")
    tables.show_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    data = StudyData(plan)
    if mismatch := identity.mismatch(data.identity):
        raise mismatch.error(f"the search '{folder.parent}' was", "choose another --out")
    data.check(folder, "choose another --out")
    with study_progress(plan) as show:
        outcomes = run_trials(plan, folder, data, show)
    tables.show_failures(outcomes)
    study = write_study(plan, outcomes, data, folder)
    tables.show_study(study)
    write_report(folder)
    return study


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
