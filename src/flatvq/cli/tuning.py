"""`flatvq tune`, step by step: search, confirm, write down."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatvq.cli import tables
from flatvq.cli.folders import default_folder, writable
from flatvq.cli.progress import watching
from flatvq.cli.tables import console
from flatvq.data.reasons import printable
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.files import write_text
from flatvq.recipe import StudyRecipe, load_recipe
from flatvq.records import Comparison, Study, load_search
from flatvq.report import tuning_sentence, write_report, write_tuning
from flatvq.study import Outcome, StudyData, plan_study, planned_trial, run_trials, write_study
from flatvq.study.devices import workers_for
from flatvq.train.identity import Identity

__all__ = ["tuned"]

_LINE_EVERY_SECONDS = 30.0


def tuned(name: str, arm: str, out: Path | None, storage: str | None, overrides: Sequence[str]) -> bool:
    """Search, confirm, and write tune.json, tuned.yaml and the reports.

    Returns:
        Whether nothing could be confirmed because trials failed.

    Raises:
        FlatvqError: if the recipe, the arm or the storage is wrong, or no trial finished.
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
        what = f"no trial of '{folder}' finished; the last was {last.state} ({last.reason})"
        raise FlatvqError(what, "train longer (tune.length, train.steps), or try more of them (tune.trials)")
    study = _confirmed(
        tune.confirming_study(settings, best.params, recipe), folder / "confirm", search.identity
    )
    (comparison,) = study.comparisons or [None]
    tune.write_record(folder, record, comparison)
    _write_recipe(folder / "tuned.yaml", load_search(folder).confirmed)
    console.print(f"Report: {write_tuning(folder)}\nRecipe: {folder / 'tuned.yaml'}")
    return comparison is None


def _confirmed(recipe: StudyRecipe, folder: Path, identity: Identity) -> Study:
    plan = plan_study(recipe, "confirm")
    tables.show_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    data = StudyData(plan)
    if mismatch := identity.mismatch(data.identity):
        raise mismatch.error(f"the search '{folder.parent}' was", "choose another --out")
    data.check(folder, "choose another --out")
    with watching(plan) as watch:
        outcomes = run_trials(plan, folder, data, watch)
    tables.show_failures(outcomes)
    study = write_study(plan, outcomes, data, folder)
    tables.show_study(study.model_dump(mode="json"))
    write_report(folder)
    return study


def _write_recipe(path: Path, comparison: Comparison | None) -> None:
    """Write the confirming study as a recipe whose head says how it went."""
    recipe = (path.parent / "confirm" / "recipe.yaml").read_text(encoding="utf-8")
    command = shlex.join(["flatvq", "train", printable(str(path)), "--arm", "tuned"])
    write_text(path, f"# {command}\n# Found by flatvq tune. {tuning_sentence(comparison)}\n{recipe}")


class _Lines:
    """A line now and then: how many trials ended, the best so far, what runs."""

    def __init__(self, trials: int) -> None:
        self.trials, self.spoke, self.ended = trials, 0.0, -1

    def show(self, search: Any, running: list[Outcome]) -> None:
        ended = search.ended
        if ended == self.ended and time.monotonic() - self.spoke < _LINE_EVERY_SECONDS:
            return
        self.spoke, self.ended = time.monotonic(), ended
        from flatvq.tune import best_of

        best = best_of(search)
        said = f"best {best.value:.3f} dB (trial {best.number})" if best else "none finished yet"
        at = ", ".join(f"step {one.step} of {one.steps}" for one in running)
        console.print(f"{ended} of {self.trials} trials ended; {said}; running: {at or 'none'}")
