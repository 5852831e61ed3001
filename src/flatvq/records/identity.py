"""The identity of a run, as identity.json and study.json hold it."""

from __future__ import annotations

from flatvq.records.reading import Count, Record

__all__ = ["Images", "StoredIdentity"]

# Digits of a fingerprint that messages show.
_DIGITS = 8


class Images(Record):
    """The training or the held-out images of a run."""

    images: Count
    """The number of images."""
    fingerprint: str
    """Hash of their content (`flatvq.data.ImageSet`)."""

    def __str__(self) -> str:
        return f"{self.images} ({self.fingerprint[:_DIGITS]})"


class StoredIdentity(Record):
    """What decides the result of a run besides its recipe.

    `flatvq.train.identity` makes and compares identities.
    """

    flatvq: str
    """The version of flatvq."""
    training_protocol: Count
    """`flatvq.versions.TRAINING_PROTOCOL`."""
    evaluation_protocol: str
    """`flatvq.evaluate.protocol_id`."""
    source: str
    """Where the images were. It is not compared, because the recipe contains it."""
    training: Images
    """The training images."""
    validation: Images
    """The held-out images."""
    parent: str = ""
    """SHA-256 of the tokenizer that the run starts from; empty if it starts from random weights."""

    def differences(self, other: StoredIdentity, label: str) -> dict[str, str]:
        """Describe how another identity of the same recipe differs.

        Args:
            other: the other identity.
            label: the words before the values of `other`, such as `now`.

        Returns:
            For each field that differs, a clause with both values, such as `flatvq 0.1.0, now 0.2.0`.
        """
        fields = {
            "training images": (self.training, other.training),
            "held-out images": (self.validation, other.validation),
            "flatvq": (self.flatvq, other.flatvq),
            "training protocol": (self.training_protocol, other.training_protocol),
            "parent tokenizer": (_digits(self.parent), _digits(other.parent)),
            "evaluation protocol": (self.evaluation_protocol, other.evaluation_protocol),
        }
        return {name: f"{name} {a}, {label} {b}" for name, (a, b) in fields.items() if a != b}


def _digits(identity: str) -> str:
    return identity[:_DIGITS] or "none"
