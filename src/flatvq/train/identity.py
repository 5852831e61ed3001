"""The identity of a run: the images and the version of flatvq, which decide its result besides the recipe.

    recipe.json      the settings, such as data.path
    identity.json    the images that data.path held when the run started, as a fingerprint; the identity of
                     the tokenizer that train.parent names; flatvq's version

A run folder is named after its recipe (`flatvq.study.plan.trial_key`). The identity is not part of the name.
If it were, a run with changed images would start again in a new folder, without a message, and the old run
would be left behind. Instead the identity is stored in the folder. A resumed run must have the same identity,
and an error names what differs.

The versions of torch and Python, the processor and the device change results by rounding only. They are
recorded (`start` in records.jsonl) but not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatvq.data import DataSplit, ImageSet
from flatvq.data.reasons import printable
from flatvq.errors import FlatvqError
from flatvq.evaluate.definitions import protocol_id
from flatvq.files import write_json
from flatvq.recipe import TrialRecipe
from flatvq.records import read_record
from flatvq.records.identity import Images, StoredIdentity
from flatvq.train.machine import Machine
from flatvq.train.parent import parent_id
from flatvq.versions import TRAINING_PROTOCOL, VERSION

__all__ = [
    "Identity",
    "Images",
    "Mismatch",
    "agree_on",
    "assign",
    "begin",
    "evaluation_protocol",
    "has_started",
    "mismatch_of",
    "read_identity",
]

_NAME = "identity.json"


@dataclass(frozen=True)
class Mismatch:
    """The difference between the identity that a run started with and its identity now."""

    what: str
    """The difference, such as `started with flatvq 0.1.0, now 0.2.0`."""
    remedies: tuple[str, ...]
    """How to restore the first identity, as imperative clauses."""

    def error(self, subject: str, alternative: str) -> FlatvqError:
        """Make the error that refuses to resume.

        Args:
            subject: what started with the first identity, with a verb, such as `'runs/a' was`.
            alternative: what to do if the first identity cannot be restored, as an imperative clause.
        """
        return FlatvqError(f"{subject} {self.what}", " or ".join([*self.remedies, alternative]))


class Identity(StoredIdentity):
    """What decides the result of a run besides its recipe.

    Example:
        >>> sides = {name: Images(images=9, fingerprint="0123456789") for name in ("training", "validation")}
        >>> versions = {"training_protocol": 5, "evaluation_protocol": "flatvq-1/crop-64/own-size"}
        >>> first = Identity(flatvq="0.1.0", **versions, source="folder 'pictures'", **sides)
        >>> now = first.model_copy(update={"training": Images(images=8, fingerprint="9876543210")})
        >>> first.mismatch(first) is None
        True
        >>> print(first.mismatch(now).error("'runs/a' was", "choose another --out"))
        'runs/a' was started with training images 9 (01234567), now 8 (98765432): restore the images of \
folder 'pictures' or choose another --out
    """

    @classmethod
    def of(cls, recipe: TrialRecipe, data: DataSplit) -> Identity:
        """Return the identity of a run that starts now.

        Args:
            recipe: the recipe of the run.
            data: the images that it opens.

        Raises:
            FlatvqError: if the tokenizer that it starts from cannot be read.
        """
        section = recipe.data
        paths = [f"'{printable(path)}'" for path in (section.path, section.validation_path) if path]
        return cls(
            flatvq=VERSION,
            training_protocol=TRAINING_PROTOCOL,
            evaluation_protocol=evaluation_protocol(recipe),
            source=" ".join([section.source, " and ".join(paths)]).strip(),
            training=_describe_images(data.training),
            validation=_describe_images(data.validation),
            parent=parent_id(recipe),
        )

    def mismatch(self, now: Identity) -> Mismatch | None:
        """Compare this identity, which a run started with, to the identity of the same recipe now.

        Args:
            now: the identity now.

        Returns:
            The difference and its remedies; None if they are equal.
        """
        differences = self.differences(now, "now")
        if not differences:
            return None
        images = differences.keys() & {"training images", "held-out images"}
        remedies = [f"restore the images of {self.source}"] if images else []
        if "parent tokenizer" in differences:
            remedies.append("restore the tokenizer of train.parent")
        if differences.keys() - images - {"parent tokenizer"}:
            same = self.flatvq == now.flatvq
            remedies.append("install the flatvq that started it" if same else f"install flatvq {self.flatvq}")
        return Mismatch(f"started with {'; '.join(differences.values())}", tuple(remedies))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of identity.json."""
        return self.model_dump(mode="json")


def evaluation_protocol(recipe: TrialRecipe) -> str:
    """Return the ID of the evaluation protocol of a trial."""
    data = recipe.data
    return protocol_id(data.crop, data.resize, recipe.model.channels, data.white_level)


def _describe_images(images: ImageSet) -> Images:
    return Images(images=len(images), fingerprint=images.fingerprint)


def read_identity(run: Path) -> Identity | None:
    """Read the identity of a run.

    Args:
        run: the folder of the run.

    Returns:
        The identity; None if the folder holds none.

    Raises:
        FlatvqError: if the file is damaged or cannot be read.
    """
    path = run / _NAME
    return read_record(Identity, path, "restore it, or train in another folder") if path.exists() else None


def has_started(run: Path) -> bool:
    """Return whether a run reached its first step, so that its folder may hold results of its recipe.

    Args:
        run: the folder of the run.
    """
    return any((run / name).exists() for name in (_NAME, "checkpoints", "model", "metrics.json"))


def mismatch_of(run: Path, now: Identity) -> Mismatch | None:
    """Compare the identity of a run that may have started to its identity now.

    Args:
        run: the folder of the run.
        now: the identity of its recipe now.

    Returns:
        The difference; None if there is none, or the run has not started.

    Raises:
        FlatvqError: if the stored identity is damaged or cannot be read.
    """
    stored = read_identity(run)
    if stored is not None:
        return stored.mismatch(now)
    # A run without a checkpoint starts from the first step, even if it has records.
    if (run / "metrics.json").exists() or any((run / "checkpoints").glob("step-*")):
        return Mismatch(f"started without {_NAME}, so its training images are unknown", ())
    return None


def begin(run: Path, identity: Identity) -> None:
    """Store the identity of a run before its first step; check it if the run has started.

    Args:
        run: the folder of the run.
        identity: the identity of its recipe now.

    Raises:
        FlatvqError: if the run started with another identity, or without a stored one.
    """
    mismatch = mismatch_of(run, identity)
    if mismatch is not None:
        raise mismatch.error(f"'{run}' was", "choose another --out")
    assign(run, identity)


def assign(run: Path, identity: Identity) -> None:
    """Store the identity of a run unless one is stored. `begin` refuses the run if its images are others."""
    if not (run / _NAME).exists():
        write_json(run / _NAME, identity.to_dict())


def agree_on(identity: Identity, machine: Machine) -> None:
    """Check that all processes of a training have the same images and versions.

    Args:
        identity: the identity in this process.
        machine: the processes. Each of them must call this function.

    Raises:
        FlatvqError: in every process, if the identity of one process differs from process 0.
    """
    first, *others = machine.gather(identity)
    for rank, other in enumerate(others, start=1):
        if differences := first.differences(other, f"process {rank} has"):
            what = f"process 0 has {'; '.join(differences.values())}"
            raise FlatvqError(what, "give every process the same images and the same flatvq")
