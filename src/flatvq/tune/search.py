"""The search: Optuna proposes settings; unpromising and collapsed trials are pruned.

Optuna's storage holds what was tried, a file in the search's folder or a database that several machines
share; the run folders hold the trainings. After a kill the same command takes its unfinished trials up where
their checkpoints are, and every finished one counts.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as Suggestion

from flatvq.data import open_data
from flatvq.errors import FlatvqError, StorageError
from flatvq.model.capacity import capacity_of
from flatvq.processes import cores
from flatvq.randomness import derived_seed
from flatvq.recipe import ParameterRange, TrialRecipe, TuneRecipe, load_trial
from flatvq.records import Validation, check_record, read_rows
from flatvq.study.collapse import perplexity_share
from flatvq.study.devices import gpus_for, least_busy
from flatvq.study.plan import Trial, trial_key
from flatvq.study.runner import Outcome, RunningTrial, StudyStopped
from flatvq.train.identity import Identity, Mismatch
from flatvq.tune.space import changed, suggested, values_of

__all__ = ["Asked", "Search"]

_POLL_SECONDS = 0.5
# A level whose perplexity is below this share of what it could be, after this share of the steps, has
# collapsed.
_COLLAPSED, _PATIENCE = 0.05, 0.3
_LOOKS = 10
_IDENTITY = "identity "
_OTHERWISE = "choose another --out or --storage"


@dataclass(frozen=True)
class Asked:
    """What is searched."""

    name: str
    """Of the search in its storage: searches of one name share what they found."""
    incumbent: TrialRecipe
    """The arm at full length, matched."""
    tune: TuneRecipe
    """How."""
    space: dict[str, ParameterRange]
    """Where."""

    @property
    def base(self) -> TrialRecipe:
        """The incumbent as trials train it: shorter, and judged by images that were set aside."""
        full = self.incumbent
        steps = max(1, round(self.tune.length * full.train.steps))
        train = {"steps": steps, "validate_every": max(1, steps // _LOOKS)}
        return full.model_copy(
            update={
                "arm": "tune",
                "seed": self.tune.seed,
                "train": full.train.model_copy(update=train),
                "data": full.data.model_copy(update={"tuning_share": self.tune.set_aside}),
            }
        )


class _Proposals(optuna.samplers.BaseSampler):
    """Proposes the incumbent's values in trial 0, and those of a Parzen estimator in the others.

    A draw depends on the seed, the trial's number, the hyper-parameter and the finished trials; no random
    state is kept between draws. A search that is killed and goes on proposes what an undisturbed one would.

    Args:
        first: the incumbent's values. They are no trial that waits in the storage: two searches that share a
            database may both take it.
        seed: of the search.
    """

    def __init__(self, first: Mapping[str, Any], seed: int) -> None:
        self.first, self.seed = first, seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn together; in trial 0 nothing is."""
        return {} if trial.number == 0 else self._estimator(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw values together."""
        return self._estimator(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value; in trial 0 it is the incumbent's, if the space holds that."""
        if trial.number == 0 and param_name in self.first:
            return self.first[param_name]
        estimator = self._estimator(trial, param_name)
        return estimator.sample_independent(study, trial, param_name, param_distribution)

    def _estimator(self, trial: FrozenTrial, *purpose: str) -> optuna.samplers.TPESampler:
        seed = derived_seed(self.seed, "tune", trial.number, *purpose) % 2**32
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=8, multivariate=True, constant_liar=True
        )


class Search:
    """A search in a folder.

    Args:
        asked: what is searched.
        folder: of this process' runs.
        storage: of what was tried, everywhere.

    Raises:
        FlatvqError: if the images cannot be opened, or the storage holds a search of that name with another
            recipe, space, images or flatvq.
    """

    def __init__(self, asked: Asked, folder: Path, storage: optuna.storages.BaseStorage | str) -> None:
        self.asked, self.folder, self.storage = asked, folder, storage
        self._place = str(folder.resolve())
        self.identity, self._trial_identity = (
            Identity.of(recipe, open_data(recipe.data)) for recipe in (asked.incumbent, asked.base)
        )
        """`identity` is that of the incumbent at full length; all machines that share the storage have it."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            storage=storage,
            study_name=asked.name,
            direction="maximize",
            load_if_exists=True,
            sampler=_Proposals(values_of(asked.incumbent, asked.space), asked.tune.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=_warm_up(asked.base)),
        )
        self._claim()

    def _claim(self) -> None:
        """Make the stored search this one, or see that it is: other trainings' values cannot be compared."""
        self._claim_identity()
        space = {name: knob.model_dump(mode="json") for name, knob in self.asked.space.items()}
        mine = {"base": self.asked.base.model_dump(mode="json"), "space": space}
        stored = self.study.user_attrs.get("asked")
        if stored is None:
            self.study.set_user_attr("asked", mine)
        elif stored != mine:
            what = f"the storage holds a search {self.asked.name!r} of another recipe or space"
            raise FlatvqError(what, "choose another --out or --storage, or delete it to start anew")

    def _claim_identity(self) -> None:
        """Write the identity of the search, or see that it is the same.

        Each identity has a key of its own. All keys are read before it is written, so that a search that is
        refused writes nothing, and after it: of two searches that begin at the same time with different
        images, at least one sees the other's.
        """
        before = self.study.user_attrs
        if "asked" in before and not _identities(before):
            older = Mismatch("begun without a record of its images", ())
            raise older.error(f"the search {self.asked.name!r} was", _OTHERWISE)
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
                raise mismatch.error(f"the search {self.asked.name!r} was", _OTHERWISE)

    @property
    def ended(self) -> int:
        """How many trials have ended, on any machine."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def run(self, workers: int, watch: Callable[[Search, list[Outcome]], None]) -> None:
        """Try settings until as many as the recipe asks for have ended.

        Args:
            workers: trials at a time.
            watch: called about twice a second with the trials that run.

        Raises:
            StudyStopped: on Ctrl-C or SIGTERM, after every running trial has written a checkpoint.
        """
        threads = max(1, cores() // workers)
        gpus = gpus_for(self.asked.base.train.device)
        waiting = self._left_behind()
        running: list[_Attempt] = []
        stops = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, _raise_stopped) for number in stops}
        try:
            while True:
                while len(running) < workers and (waiting or self._wanted(len(running))):
                    suggestion = waiting.pop(0) if waiting else self._asked()
                    gpu = least_busy(gpus, [attempt.running.gpu for attempt in running])
                    attempt = self._begun(suggestion, threads, gpu)
                    running += [attempt] if attempt else []
                if not running:
                    return
                wait([attempt.running.process.sentinel for attempt in running], _POLL_SECONDS)
                running = [attempt for attempt in running if not attempt.ended(self.study)]
                watch(self, [attempt.running.outcome for attempt in running])
        except BaseException as error:
            for attempt in running:
                attempt.running.process.terminate()
            for attempt in running:
                attempt.running.process.join()
            if isinstance(error, KeyboardInterrupt | StudyStopped):
                raise StudyStopped from None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wanted(self, running: int) -> bool:
        return self.ended + running < self.asked.tune.trials

    def _asked(self) -> Suggestion:
        """Add a trial to the storage, with its folder in one operation: after a kill it is found by that."""
        here = {"folder": self._place}
        self.study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=here))
        return self._left_behind()[-1]

    def _left_behind(self) -> list[Suggestion]:
        """Return the trials that this folder began and did not end, by number."""
        # Read anew: a study keeps the finished trials that it has read once for its samplers.
        study = optuna.load_study(
            study_name=self.asked.name,
            storage=self.storage,
            sampler=self.study.sampler,
            pruner=self.study.pruner,
        )
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        found = [trial for trial in trials if trial.user_attrs.get("folder") == self._place]
        return [Suggestion(study, trial._trial_id) for trial in found]

    def _begun(self, suggestion: Suggestion, threads: int, gpu: str | None) -> _Attempt | None:
        """Start a trial's process; one whose values make no recipe ends at once."""
        if "run" in suggestion.user_attrs:
            run = Path(suggestion.user_attrs["run"])
            recipe = load_trial(self.folder / run)
        else:
            try:
                recipe = changed(self.asked.base, suggested(suggestion, self.asked.space))
            except FlatvqError as error:
                suggestion.set_user_attr("reason", str(error))
                self.study.tell(suggestion, state=TrialState.FAIL)
                return None
            run = Path("runs") / f"{suggestion.number:04}-{trial_key(recipe)}"
        outcome = Outcome(Trial(recipe, run))
        running = RunningTrial(outcome, self.folder, self._trial_identity, threads, gpu)
        suggestion.set_user_attr("run", str(run))
        return _Attempt(suggestion, running)


class _Attempt:
    """A trial that runs, and what the search makes of it."""

    def __init__(self, suggestion: Suggestion, running: RunningTrial) -> None:
        self.suggestion, self.running = suggestion, running
        self.told = 0
        """Looks that were judged."""
        stored = suggestion.study.get_trials(deepcopy=False)[suggestion.number]
        self.reported = set(stored.intermediate_values)
        """Steps whose looks the storage holds."""

    def ended(self, study: optuna.Study) -> bool:
        """Report news to the search; give the trial up if it says so; tell how it ended."""
        over = self.running.finished()
        why = self._given_up()
        if why is not None and not over:
            self.running.process.terminate()
            self.running.process.join()
            self.suggestion.set_user_attr("reason", why)
            study.tell(self.suggestion, state=TrialState.PRUNED)
            return True
        if not over:
            return False
        outcome = self.running.outcome
        if self.running.process.exitcode == StorageError.exit_code:
            # The trial has not ended: the same command takes it up again.
            raise StorageError(f"trial {self.suggestion.number} stopped", str(outcome.error))
        if outcome.status == "done" and outcome.psnr_db is not None:
            study.tell(self.suggestion, outcome.psnr_db)
        else:
            self.suggestion.set_user_attr("reason", outcome.error)
            study.tell(self.suggestion, state=TrialState.FAIL)
        return True

    def _given_up(self) -> str | None:
        """Report the looks since the last call, and say why the trial should not go on, if it should not."""
        looks = _validations(self.running.run / "records.jsonl")
        news, self.told = looks[self.told :], len(looks)
        for look in news:
            if look.step not in self.reported:
                self.suggestion.report(look.psnr_db, look.step)
        for look in news:
            level = _collapsed(self.running.outcome.trial.recipe, look)
            if level is not None:
                return f"collapsed: level {level} at step {look.step}"
        return "below the median" if looks and self.suggestion.should_prune() else None


def _identities(attributes: Mapping[str, Any]) -> list[Identity]:
    """Return the identities that a storage holds of a search."""
    records = [value for key, value in attributes.items() if key.startswith(_IDENTITY) and value is not None]
    where, remedy = "the storage of the search", "choose another --out or --storage"
    return [check_record(Identity, record, where, remedy) for record in records]


def _collapsed(recipe: TrialRecipe, look: Validation) -> int | None:
    """Name the first level whose codes are hardly used; None while it is too early to tell."""
    if look.step < _PATIENCE * recipe.train.steps:
        return None
    levels = capacity_of(recipe.model, recipe.data.crop).levels
    for number, (level, seen) in enumerate(zip(levels, look.levels, strict=False)):
        images = recipe.evaluate.validation_images
        if perplexity_share(seen.perplexity, level.codebook_size, level.grid, images) < _COLLAPSED:
            return number
    return None


def _validations(path: Path) -> list[Validation]:
    """Read the looks at validation images, one a step, in order; a cut-off last line is left for later."""
    rows = read_rows(path).rows if path.exists() else []
    remedy = "choose another --out"
    rows = [row for row in rows if row["kind"] == "validation"]
    by_step = {row["step"]: check_record(Validation, row, f"'{path}'", remedy) for row in rows}
    return [by_step[step] for step in sorted(by_step)]


def _warm_up(base: TrialRecipe) -> int:
    """Return the step before which no trial is compared with others."""
    return round(_PATIENCE * base.train.steps)


def _raise_stopped(number: int, frame: object) -> None:
    raise StudyStopped
