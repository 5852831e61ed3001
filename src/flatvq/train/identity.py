"""What decides a run's result beside its recipe: the images on both sides, and the version of the code.

    recipe.json      what was asked for: data.path and the other settings
    identity.json    what that stood for when the run began: a fingerprint of the images, flatvq's version

A run's folder is named by its recipe (`flatvq.study.plan.trial_key`). The identity is not part of that name:
after a change of the images or of flatvq a finished run would then be trained again without a message, or be
left behind unnoticed. Stored in the folder, it can be compared, and the difference can be named.

The versions of torch and Python, the processor and the device change results by rounding only. They are
recorded (`start` in records.jsonl) and not compared.
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
from flatvq.records import Record, read_record
from flatvq.train.machine import Machine
from flatvq.versions import TRAINING_PROTOCOL, VERSION

__all__ = ["Identity", "Images", "Mismatch", "agree_on", "assign", "begin", "mismatch_of", "read_identity"]

_NAME = "identity.json"
# Digits of a fingerprint that messages show.
_DIGITS = 8


class Images(Record):
    """The images of one side."""

    images: int
    """How many."""
    fingerprint: str
    """Hash of their content (`flatvq.data.ImageSet`)."""

    @classmethod
    def of(cls, images: ImageSet) -> Images:
        """Describe a set of images."""
        return cls(images=len(images), fingerprint=images.fingerprint)

    def __str__(self) -> str:
        return f"{self.images} ({self.fingerprint[:_DIGITS]})"


@dataclass(frozen=True)
class Mismatch:
    """How two identities differ."""

    what: str
    """Such as `begun with flatvq 0.1.0, now 0.2.0`."""
    remedies: tuple[str, ...]
    """What restores the first one, as imperative clauses."""

    def error(self, where: str, otherwise: str) -> FlatvqError:
        """Make the error that refuses to go on.

        Args:
            where: what has the first identity, with a verb, such as `'runs/a' was`.
            otherwise: what to do if the first identity cannot be restored.
        """
        return FlatvqError(f"{where} {self.what}", " or ".join([*self.remedies, otherwise]))


class Identity(Record):
    """What decides a run's result beside its recipe.

    Example:
        >>> sides = {name: Images(images=9, fingerprint="0123456789") for name in ("training", "validation")}
        >>> head = {"training_protocol": 5, "evaluation_protocol": "flatvq-1/crop-64/own-size"}
        >>> one = Identity(flatvq="0.1.0", **head, source="folder 'pictures'", **sides)
        >>> other = one.model_copy(update={"training": Images(images=8, fingerprint="9876543210")})
        >>> one.mismatch(one) is None
        True
        >>> print(one.mismatch(other).error("'runs/a' was", "choose another --out"))
        'runs/a' was begun with training images 9 (01234567), now 8 (98765432): restore the images of \
folder 'pictures' or choose another --out
    """

    flatvq: str
    """Version of flatvq."""
    training_protocol: int
    """`flatvq.versions.TRAINING_PROTOCOL`."""
    evaluation_protocol: str
    """`flatvq.evaluate.protocol_id`."""
    source: str
    """Where the images were; not compared, for the recipe has it."""
    training: Images
    """What is trained on."""
    validation: Images
    """What is held out."""

    @classmethod
    def of(cls, recipe: TrialRecipe, data: DataSplit) -> Identity:
        """Identify a run that begins now.

        Args:
            recipe: the run's.
            data: the images, as they were opened from it.
        """
        section = recipe.data
        paths = [f"'{printable(path)}'" for path in (section.path, section.validation_path) if path]
        return cls(
            flatvq=VERSION,
            training_protocol=TRAINING_PROTOCOL,
            evaluation_protocol=protocol_id(section.crop, section.resize, recipe.model.channels),
            source=" ".join([section.source, " and ".join(paths)]).strip(),
            training=Images.of(data.training),
            validation=Images.of(data.validation),
        )

    def differences(self, other: Identity, when: str) -> dict[str, str]:
        """Say what differs in another identity of the same recipe.

        Args:
            other: the other identity.
            when: what to put before its values, such as `now`.

        Returns:
            Clauses with both values, such as `flatvq 0.1.0, now 0.2.0`, by what differs.
        """
        named = {
            "training images": (self.training, other.training),
            "held-out images": (self.validation, other.validation),
            "flatvq": (self.flatvq, other.flatvq),
            "training protocol": (self.training_protocol, other.training_protocol),
            "evaluation protocol": (self.evaluation_protocol, other.evaluation_protocol),
        }
        return {name: f"{name} {a}, {when} {b}" for name, (a, b) in named.items() if a != b}

    def mismatch(self, now: Identity) -> Mismatch | None:
        """Compare this identity, which was stored, with that of the same recipe now; None if they agree."""
        differ = self.differences(now, "now")
        if not differ:
            return None
        images = differ.keys() & {"training images", "held-out images"}
        remedies = [f"restore the images of {self.source}"] if images else []
        if differ.keys() - images:
            same = self.flatvq == now.flatvq
            remedies.append("install the flatvq that began it" if same else f"install flatvq {self.flatvq}")
        return Mismatch(f"begun with {'; '.join(differ.values())}", tuple(remedies))

    def to_dict(self) -> dict[str, Any]:
        """Return what identity.json holds."""
        return self.model_dump(mode="json")


def read_identity(run: Path) -> Identity | None:
    """Read the identity of a run.

    Args:
        run: its folder.

    Returns:
        The identity; None if the folder holds none.

    Raises:
        FlatvqError: if the file is damaged or cannot be read.
    """
    path = run / _NAME
    return read_record(Identity, path, "restore it, or train in another folder") if path.exists() else None


def mismatch_of(run: Path, now: Identity) -> Mismatch | None:
    """Compare a run that may have begun with what it would be begun with now.

    Args:
        run: its folder.
        now: the identity of its recipe now.

    Returns:
        How they differ; None if they agree, or the run has not begun.

    Raises:
        FlatvqError: if the run's identity cannot be read.
    """
    stored = read_identity(run)
    if stored is not None:
        return stored.mismatch(now)
    # Without a checkpoint a run starts over, whatever records it has.
    if (run / "metrics.json").exists() or any((run / "checkpoints").glob("step-*")):
        return Mismatch(f"begun without {_NAME}, so nothing says which images it was trained on", ())
    return None


def begin(run: Path, identity: Identity) -> None:
    """Give a run its identity before its first step, or see that it is the same.

    Args:
        run: its folder.
        identity: of its recipe now.

    Raises:
        FlatvqError: if the run was begun with another identity, or cannot be known to have had this one.
    """
    mismatch = mismatch_of(run, identity)
    if mismatch is not None:
        raise mismatch.error(f"'{run}' was", "choose another --out")
    assign(run, identity)


def assign(run: Path, identity: Identity) -> None:
    """Write the identity of a run that has none; `begin` refuses the run if it does not hold."""
    if not (run / _NAME).exists():
        write_json(run / _NAME, identity.to_dict())


def agree_on(identity: Identity, machine: Machine) -> None:
    """See that all processes of a training have the same images and versions.

    Args:
        identity: this process's.
        machine: the processes.

    Raises:
        FlatvqError: in every process, if one differs from the first.
    """
    first, *others = machine.gather(identity)
    for rank, other in enumerate(others, start=1):
        if differ := first.differences(other, f"process {rank} has"):
            what = f"process 0 has {'; '.join(differ.values())}"
            raise FlatvqError(what, "give every process the same images and the same flatvq")
