"""The steps of `flatvq tune`: search, confirm, write the results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatvq.cli import tables
from flatvq.cli.cluster import ClusterCommand, notice, require_no_jobs
from flatvq.cli.folders import default_folder, writable
from flatvq.cli.plan_tables import show_plan
from flatvq.cli.progress import study_progress
from flatvq.cli.tables import console
from flatvq.data.reasons import printable
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.files import write_text
from flatvq.recipe import StudyRecipe, load_recipe, with_cluster_of_user
from flatvq.records import Comparison, Study, load_search
from flatvq.report import tuning_sentence, write_report, write_tuning
from flatvq.study import ClusterTrials, Outcome, StudyData, plan_study, planned_trial, run_look
from flatvq.study.devices import workers_for
from flatvq.train.identity import Identity

if TYPE_CHECKING:
    from flatvq.tune import SearchSettings

__all__ = ["SearchCommand", "search_and_confirm", "work"]

_LINE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class SearchCommand:
    """A search, defined by the options of `flatvq tune`."""

    name: str
    """Name or path of the recipe."""
    arm: str
    """The incumbent; empty for the reference arm."""
    out: Path | None
    """Folder of the search; None for the default."""
    storage: str | None
    """URL of a database; None for a file in the folder."""
    overrides: Sequence[str]
    """Overrides of the recipe."""

    def opened(self) -> tuple[StudyRecipe, SearchSettings, Path]:
        """Return the recipe, the settings of the search and its folder.

        Raises:
            FlatvqError: if Optuna is missing, or the recipe or the arm is not valid.
        """
        try:
            from flatvq import tune
        except ImportError:
            raise MissingExtraError("searches", "Optuna", extra="tune") from None
        recipe = with_cluster_of_user(load_recipe(self.name, self.overrides))
        incumbent = planned_trial(recipe, self.arm or recipe.match.reference, recipe.seeds[0])
        space = recipe.tune.space or tune.space_of(incumbent)
        name = f"{Path(self.name).stem}-{incumbent.arm}"
        settings = tune.SearchSettings(name, incumbent, recipe.tune, space)
        tune.check_space(settings.base, space)
        folder = writable(self.out or default_folder("tunes", self.name, incumbent.arm))
        folder.mkdir(parents=True, exist_ok=True)
        return recipe, settings, folder

    def worker_command(self, folder: Path) -> tuple[str, ...]:
        """Return the module and the arguments of a worker, without its number."""
        command = ["flatvq", "tune", self.name, "--arm", self.arm, "--out", str(folder.resolve())]
        command += ["--storage", self.storage] if self.storage is not None else []
        return (*command, *(argument for override in self.overrides for argument in ("--set", override)))


def work(command: SearchCommand, worker: int) -> None:
    """Run trials as one of several workers.

    Args:
        command: the search.
        worker: the number of the worker, from 0.

    Raises:
        FlatvqError: if the recipe, the arm or the storage is not valid.
        BusyError: if another process is this worker.
        StudyStopped: on Ctrl-C or SIGTERM.
    """
    recipe, settings, folder = command.opened()
    from flatvq import tune

    ended = tune.run_worker(settings, folder, command.storage, worker, recipe.cluster.cpus or None)
    console.print(
        f"{ended} trials ended in worker {worker}. The same command without --worker confirms the best."
    )


def search_and_confirm(
    command: SearchCommand, on: ClusterCommand | None = None, workers: int | None = None
) -> bool:
    """Search hyper-parameters, confirm the winner, and write `tune.json`, `tuned.yaml` and the reports.

    Args:
        command: the search.
        on: what to do on a cluster; None to search on this machine.
        workers: the number of workers on the cluster; None for as many as may run at a time.

    Returns:
        Whether winner and incumbent could be compared; False if too many of their trials failed. Also True if
        jobs were only submitted or cancelled.

    Raises:
        FlatvqError: if the recipe, the arm or the storage is not valid, or no trial finished.
        StudyStopped: on Ctrl-C or SIGTERM.
    """
    recipe, settings, folder = command.opened()
    from flatvq import tune

    trials = recipe.tune.trials
    if on is None:
        require_no_jobs(folder, "search")
    if on is not None:
        tune.require_no_password(command.storage)
        (folder / "workers").mkdir(exist_ok=True)  # so that the journal has a lock that all hosts see
    with tune.storage_errors(command.storage):
        search = tune.Search(settings, folder, tune.open_storage(folder, command.storage))
        if on is None:
            search.run(workers_for(recipe, trials), _Lines(trials).show)
        else:
            count = min(workers or recipe.cluster.max_running, trials)
            on_cluster = tune.ClusterSearch(
                on.kind, recipe.cluster, search, command.worker_command(folder), count
            )
            if on.run(on_cluster) is None:
                return True
        best = tune.best_of(search)
        record = tune.tune_record(search)
    tune.write_record(folder, record, None)
    if best is None:
        last = record.trials[-1]
        state = {"pruned": "was pruned", "failed": "failed"}
        what = f"no trial of '{folder}' finished; the last one {state[last.state]} ({last.reason})"
        raise FlatvqError(what, "increase tune.length, train.steps or tune.trials")
    confirming = tune.confirming_study(settings, best.params, recipe)
    study = _confirm(confirming, folder / "confirm", search.identity, on.kind if on else None)
    (comparison,) = study.comparisons or [None]
    tune.write_record(folder, record, comparison)
    _write_recipe(folder / "tuned.yaml", load_search(folder).confirmed)
    console.print(f"Report: {write_tuning(folder)}\nRecipe: {folder / 'tuned.yaml'}")
    return comparison is not None


def _confirm(recipe: StudyRecipe, folder: Path, identity: Identity, kind: str | None) -> Study:
    plan = plan_study(recipe, "confirm")
    show_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    data = StudyData(plan)
    if mismatch := identity.mismatch(data.identity):
        raise mismatch.error(f"the search '{folder.parent}' was", "choose another --out")
    data.check(folder, "choose another --out")
    with study_progress() as show:
        train = ClusterTrials(kind, notice) if kind else None
        result = run_look(plan, plan.recipe.looks[-1], folder, data, show, train)
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
        console.print(
            f"{ended} of {self.trials} trials ended; {result}; running: {steps or 'none'}", soft_wrap=True
        )
