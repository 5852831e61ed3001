"""The images of a study, opened once before its trials, and the identity that its trials must have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from flatvq.data import open_data
from flatvq.errors import FlatvqError
from flatvq.recipe import load_trial
from flatvq.study.design import superseded_folder
from flatvq.study.plan import Plan, Trial
from flatvq.train.identity import Identity, Mismatch, mismatch_of
from flatvq.train.lease import leased

__all__ = ["StudyData"]

_LEASE_SECONDS = 1.0


class StudyData:
    """The images of a study.

    Args:
        plan: the study.

    Raises:
        FlatvqError: if images cannot be opened, or if two arms of a comparison are evaluated on different
            images.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        first = plan.arms[0].recipe
        self.split = open_data(first.data)
        """The images of the first arm. In most studies all arms use the same images."""
        self._identities = {first.arm: Identity.of(first, self.split)}
        for arm in plan.arms[1:]:
            data = self.split if arm.recipe.data == first.data else open_data(arm.recipe.data)
            self._identities[arm.name] = Identity.of(arm.recipe, data)
        self._require_same_evaluation()

    @property
    def identity(self) -> Identity:
        """The identity of the first arm's trials."""
        return self.identity_of(self.plan.arms[0].name)

    def identity_of(self, arm: str) -> Identity:
        """Return the identity of the trials of an arm."""
        return self._identities[arm]

    def check(self, folder: Path, alternative: str) -> None:
        """Refuse to resume a study whose trials used other images or another version of flatvq.

        Call it before anything is trained.

        Args:
            folder: the folder of the study.
            alternative: what to do if the first images or version cannot be restored, as an imperative
                clause.

        Raises:
            FlatvqError: if such trials exist, with their number, what differs and what to do.
        """
        mismatches = list(self._mismatches(folder))
        if mismatches:
            trial, mismatch = mismatches[0]
            number = f"{len(mismatches)} of {len(self.plan.trials)} trials in '{folder}'"
            subject = f"{number} cannot be resumed or compared; '{trial.run}' was"
            raise mismatch.error(subject, alternative)

    def set_aside(self, folder: Path) -> list[Path]:
        """Move the trials that `check` refuses, and the record of the study, to FOLDER/superseded/N.

        Args:
            folder: the folder of the study.

        Returns:
            The new folders of the trials.

        Raises:
            FlatvqError: if one of the trials is being trained.
        """
        trials = [trial for trial, _ in self._mismatches(folder)]
        if not trials:
            return []
        target = superseded_folder(folder)
        with ExitStack() as leases:
            for trial in trials:
                leases.enter_context(leased(folder / trial.run, _LEASE_SECONDS))
            # study.json goes first: after a kill, it must not describe trials that are no longer there.
            for path in (Path("study.json"), Path("report.html"), *(trial.run for trial in trials)):
                if (folder / path).exists():
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).rename(target / path)
        return [target / trial.run for trial in trials]

    def _mismatches(self, folder: Path) -> Iterator[tuple[Trial, Mismatch]]:
        """Yield the trials whose runs started with an identity or recipe that differs from the plan."""
        for trial in self.plan.trials:
            run = folder / trial.run
            mismatch = mismatch_of(run, self.identity_of(trial.recipe.arm))
            if (run / "recipe.json").exists() and load_trial(run) != trial.recipe:
                mismatch = Mismatch("started with another recipe", ("restore its recipe.json",))
            if mismatch is not None:
                yield trial, mismatch

    def _require_same_evaluation(self) -> None:
        for a, b in _subtracted(self.plan):
            differences = self.identity_of(a).differences(self.identity_of(b), f"{b} has")
            differences.pop("training images", None)
            if differences:
                what = f"arms are evaluated differently: {a} has {'; '.join(differences.values())}"
                raise FlatvqError(what, "give them the same held-out images, crop, resize and white_level")


def _subtracted(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the pairs of arms of which one value is subtracted from the other."""
    for comparison in plan.comparisons:
        yield from zip(comparison.arms[::2], comparison.arms[1::2], strict=True)
    for pair in plan.recipe.curves:
        first, *others = (*pair.a, *pair.b)
        yield from ((first, other) for other in others)
