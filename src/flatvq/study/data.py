"""The images of a study, opened once before its trials, and the identity that every trial must have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from flatvq.data import open_data
from flatvq.errors import FlatvqError
from flatvq.recipe import load_trial
from flatvq.study.plan import Plan, Trial
from flatvq.train.identity import Identity, Mismatch, mismatch_of
from flatvq.train.lock import locked

__all__ = ["StudyData"]

_ASIDE = "superseded"
_LOCK_SECONDS = 1.0


class StudyData:
    """The images of a study.

    Args:
        plan: the study.

    Raises:
        FlatvqError: if images cannot be opened, or arms that are compared are evaluated on different images.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        first = plan.arms[0].recipe
        self.split = open_data(first.data)
        """The images of the first arm; most studies have the same ones in all arms."""
        self._identities = {first.arm: Identity.of(first, self.split)}
        for arm in plan.arms[1:]:
            data = self.split if arm.recipe.data == first.data else open_data(arm.recipe.data)
            self._identities[arm.name] = Identity.of(arm.recipe, data)
        self._refuse_different_images()

    @property
    def identity(self) -> Identity:
        """That of the first arm's trials."""
        return self.identity_of(self.plan.arms[0].name)

    def identity_of(self, arm: str) -> Identity:
        """Return the identity of an arm's trials."""
        return self._identities[arm]

    def check(self, folder: Path, otherwise: str) -> None:
        """Refuse to go on with trials of other images or another flatvq, before anything is trained.

        Args:
            folder: the study's.
            otherwise: what to do if what they began with cannot be restored.

        Raises:
            FlatvqError: how many trials differ, in what, and what to do.
        """
        differing = list(self._mismatches(folder))
        if differing:
            trial, mismatch = differing[0]
            number = f"{len(differing)} of {len(self.plan.trials)} trials in '{folder}'"
            where = f"{number} cannot be continued or compared; '{trial.run}' was"
            raise mismatch.error(where, otherwise)

    def set_aside(self, folder: Path) -> list[Path]:
        """Move the trials that `check` refuses to FOLDER/superseded/N, and the study's record with them.

        Args:
            folder: the study's.

        Returns:
            Where the trials are now.

        Raises:
            FlatvqError: if one of them is being trained.
        """
        differing = [trial for trial, _ in self._mismatches(folder)]
        if not differing:
            return []
        places = (folder / _ASIDE / str(number) for number in count(1))
        aside = next(place for place in places if not place.exists())
        with ExitStack() as locks:
            for trial in differing:
                locks.enter_context(locked(folder / trial.run, _LOCK_SECONDS))
            # The record goes first: it is not of the trials that will be in the folder.
            for path in (Path("study.json"), Path("report.html"), *(trial.run for trial in differing)):
                if (folder / path).exists():
                    (aside / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).rename(aside / path)
        return [aside / trial.run for trial in differing]

    def _mismatches(self, folder: Path) -> Iterator[tuple[Trial, Mismatch]]:
        for trial in self.plan.trials:
            run = folder / trial.run
            mismatch = mismatch_of(run, self.identity_of(trial.recipe.arm))
            if (run / "recipe.json").exists() and load_trial(run) != trial.recipe:
                mismatch = Mismatch("begun with another recipe", ("restore its recipe.json",))
            if mismatch is not None:
                yield trial, mismatch

    def _refuse_different_images(self) -> None:
        for pair in self.plan.comparisons:
            a, b = self.identity_of(pair.a), self.identity_of(pair.b)
            differ = a.differences(b, f"{pair.b} has")
            differ.pop("training images", None)
            if differ:
                what = f"arms are not evaluated alike: {pair.a} has {'; '.join(differ.values())}"
                raise FlatvqError(what, "give them the same held-out images, crop and resize")
