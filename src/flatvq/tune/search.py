"""The search: Optuna proposes values, and unpromising and collapsed trials are pruned.

The storage of Optuna holds the trials: a file in the folder of the search, or a database that several
machines share. The run folders hold the trainings. After a kill, the same command resumes unfinished trials
from their checkpoints and keeps all finished ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial as Suggestion
from optuna.trial import TrialState

from flatvq.data import open_data
from flatvq.errors import FlatvqError
from flatvq.recipe import load_trial
from flatvq.records import check_record
from flatvq.study.outcome import Outcome
from flatvq.study.plan import Trial, trial_key
from flatvq.study.running import RunningTrial
from flatvq.study.scheduler import Scheduler, Slot
from flatvq.train.identity import Identity, Mismatch
from flatvq.tune.attempt import RunningAttempt
from flatvq.tune.proposals import Proposals
from flatvq.tune.settings import SearchSettings, warm_up_steps
from flatvq.tune.space import suggest_values, values_of, with_values
from flatvq.tune.storage import workers_lock

__all__ = ["Search"]

# The start of the storage attributes that hold identities.
_IDENTITY = "identity "
_ALTERNATIVE = "choose another --out or --storage"


class Search:
    """A search in a folder.

    Args:
        settings: the settings of the search.
        folder: the folder for the runs of this process.
        storage: the Optuna storage of the trials of all machines.
        worker: the folder of one of several workers, relative to `folder`. It has the runs of the worker's
            trials. None for a search without workers.
        confirm: called before anything is reported to the storage. It raises an error if this process no
            longer owns its trials.

    Raises:
        FlatvqError: if the images cannot be opened, or the storage holds a search of that name with another
            recipe, space, images or version of flatvq.
    """

    def __init__(
        self,
        settings: SearchSettings,
        folder: Path,
        storage: optuna.storages.BaseStorage | str,
        *,
        worker: Path | None = None,
        confirm: Callable[[], object] = lambda: None,
    ) -> None:
        self.settings, self.folder, self.storage = settings, folder, storage
        self._worker, self._confirm = worker, confirm
        self._folder_name = str((folder / (worker or "")).resolve())
        self.identity, self._trial_identity = (
            Identity.of(recipe, open_data(recipe.data)) for recipe in (settings.incumbent, settings.base)
        )
        """The identity of the incumbent at full length. It is the same on all machines that share the
        storage."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            storage=storage,
            study_name=settings.name,
            direction="maximize",
            load_if_exists=True,
            sampler=Proposals(values_of(settings.incumbent, settings.space), settings.tune.seed),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=4, n_warmup_steps=warm_up_steps(settings.base)
            ),
        )
        self._claim()

    def _claim(self) -> None:
        """Store the identity, recipe and space of the search; refuse a stored search that has others.

        The trials of such a search could not be compared with the trials of this search.
        """
        self._claim_identity()
        space = {name: span.model_dump(mode="json") for name, span in self.settings.space.items()}
        own = {"base": self.settings.base.identifying(), "space": space}
        stored = self.study.user_attrs.get("asked")
        if stored is None:
            self.study.set_user_attr("asked", own)
        elif stored != own:
            what = f"the storage holds a search {self.settings.name!r} of another recipe or space"
            raise FlatvqError(what, "choose another --out or --storage, or delete it to start anew")

    def _claim_identity(self) -> None:
        """Store the identity of the search; refuse a stored search with another identity.

        Each identity has its own key. All identities are read before this one is written, so that a refused
        search writes nothing. They are read again after it is written: if two searches with different images
        start at the same time, at least one of them then sees the other's identity and is refused.
        """
        attributes = self.study.user_attrs
        if "asked" in attributes and not _identities(attributes):
            unknown = Mismatch("started without a record of its images", ())
            raise unknown.error(f"the search {self.settings.name!r} was", _ALTERNATIVE)
        self._refuse_other_identities()
        record = self.identity.to_dict()
        key = _IDENTITY + hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
        self.study.set_user_attr(key, record)
        try:
            self._refuse_other_identities()
        except FlatvqError:
            self.study.set_user_attr(key, None)
            raise

    def _refuse_other_identities(self) -> None:
        for stored in _identities(self.study.user_attrs):
            if mismatch := stored.mismatch(self.identity):
                raise mismatch.error(f"the search {self.settings.name!r} was", _ALTERNATIVE)

    @property
    def ended(self) -> int:
        """The number of trials that have ended, on all machines."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    @property
    def own_ended(self) -> int:
        """The number of trials of this folder or worker that have ended."""
        return sum(
            trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False) if self._owns(trial)
        )

    def _owns(self, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.user_attrs.get("folder") == self._folder_name

    def needs_trials(self, running: int) -> bool:
        """Return whether to start another trial.

        Args:
            running: the number of trials that this process runs. A worker also counts the running trials of
                the other workers, since each worker resumes its own.
        """
        tune = self.settings.tune
        trials = self.study.get_trials(deepcopy=False)
        states = [trial.state for trial in trials]
        if self._worker is not None:
            workers = str(Path(self._folder_name).parent)
            folders = [
                str(trial.user_attrs.get("folder")) for trial in trials if not trial.state.is_finished()
            ]
            running = sum(str(Path(folder).parent) == workers for folder in folders)
        ended = sum(state.is_finished() for state in states)
        done = sum(state == TrialState.COMPLETE for state in states)
        return ended + running < tune.trials and (not tune.finished or done + running < tune.finished)

    def run(
        self, workers: int, watch: Callable[[Search, list[Outcome]], None], threads: int | None = None
    ) -> None:
        """Run trials until as many as the recipe sets have ended or finished.

        Args:
            workers: the number of trials at a time.
            watch: called about twice a second with the running trials.
            threads: the number of threads of a trial; None for an equal share of the cores.

        Raises:
            StudyStopped: on Ctrl-C or SIGTERM, after every running trial has written a checkpoint.
        """
        unfinished = self._unfinished()

        def start_next(slot: Slot) -> RunningAttempt | None:
            while suggestion := unfinished.pop(0) if unfinished else self._new(len(scheduler.running)):
                if attempt := self._start(suggestion, slot):
                    return attempt
            return None

        scheduler: Scheduler[RunningAttempt] = Scheduler(workers, self.settings.base.train.device, threads)
        scheduler.run(
            start_next, lambda: watch(self, [attempt.running.outcome for attempt in scheduler.running])
        )

    def _new(self, running: int) -> Suggestion | None:
        """Add a trial to the storage if another one is needed; return None otherwise.

        Workers take turns, so that two of them do not both add the last trial. The folder of the trial is
        written in the same operation, so that `_unfinished` returns the trial after a kill.
        """
        with workers_lock(self.folder) if self._worker else nullcontext():
            if not self.needs_trials(running):
                return None
            attributes = {"folder": self._folder_name}
            self.study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes))
        return self._unfinished()[-1]

    def _unfinished(self) -> list[Suggestion]:
        """Return the trials that this folder started and did not end, ordered by number."""
        # Load the study again, because a study caches the finished trials for its sampler.
        study = optuna.load_study(
            study_name=self.settings.name,
            storage=self.storage,
            sampler=self.study.sampler,
            pruner=self.study.pruner,
        )
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [Suggestion(study, trial._trial_id) for trial in trials if self._owns(trial)]

    def _start(self, suggestion: Suggestion, slot: Slot) -> RunningAttempt | None:
        """Start the process of a trial. If its values are not valid, mark it as failed and return None."""
        if "run" in suggestion.user_attrs:
            run = Path(suggestion.user_attrs["run"])
            recipe = load_trial(self.folder / run)
        else:
            try:
                recipe = with_values(self.settings.base, suggest_values(suggestion, self.settings.space))
            except FlatvqError as error:
                suggestion.set_user_attr("reason", str(error))
                self.study.tell(suggestion, state=TrialState.FAIL)
                return None
            run = (self._worker or Path()) / "runs" / f"{suggestion.number:04}-{trial_key(recipe)}"
        running = RunningTrial(Outcome(Trial(recipe, run)), self.folder, self._trial_identity, slot)
        suggestion.set_user_attr("run", str(run))
        return RunningAttempt(self.study, suggestion, running, self._confirm)


def _identities(attributes: Mapping[str, Any]) -> list[Identity]:
    """Parse the identities that a search stored in its Optuna attributes."""
    records = [value for key, value in attributes.items() if key.startswith(_IDENTITY) and value is not None]
    origin, remedy = "the storage of the search", "choose another --out or --storage"
    return [check_record(Identity, record, origin, remedy) for record in records]
