"""Choose held-out images by a hash of their content, so that exact copies are on the same side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flatvq.data.manifest import Entry
from flatvq.errors import FlatvqError

__all__ = ["Sides", "divide", "first_by_hash", "is_held_out", "without_copies"]


@dataclass(frozen=True)
class Sides:
    """The images of a source, divided into training and validation."""

    training: tuple[Entry, ...]
    """In the source's order."""
    validation: tuple[Entry, ...]
    """In the source's order."""

    def __iter__(self) -> Iterator[Entry]:
        yield from self.training
        yield from self.validation


def is_held_out(digest: str, share: float) -> bool:
    """Return whether content with this hash is held out.

    Args:
        digest: the hash, in hexadecimal digits.
        share: the share to hold out, in (0, 1).

    Example:
        >>> is_held_out("00" * 16, share=0.1), is_held_out("ff" * 16, share=0.1)
        (True, False)
    """
    return int(digest, 16) / 16.0 ** len(digest) < share


def divide(entries: Sequence[Entry], share: float, title: str) -> Sides:
    """Hold out about a share of the images: at least one, but not all.

    The side of an image depends on its content alone, so adding files does not move other images. The only
    exception: if a side would be empty, the content next to it in hash order, with all copies, is moved
        there.

    Args:
        entries: the images.
        share: the share to hold out, in (0, 1).
        title: the name of the source in an error.

    Returns:
        Both sides, neither empty.

    Raises:
        FlatvqError: if there are fewer than two different images.
    """
    digests = sorted({entry.digest for entry in entries})
    if len(digests) < 2:
        number = "1 distinct" if digests else "no"
        what = f"{title} holds {number} readable image; at least two are needed, to hold one out"
        raise FlatvqError(what, "add images or give data.validation_path")
    held = {digest for digest in digests if is_held_out(digest, share)}
    # Fill an empty side: the highest hash is held out only if all are, the lowest is not only if none is.
    held = held - {digests[-1]} | {digests[0]}
    return Sides(
        training=tuple(entry for entry in entries if entry.digest not in held),
        validation=tuple(entry for entry in entries if entry.digest in held),
    )


def first_by_hash(entries: Sequence[Entry], limit: int) -> tuple[Entry, ...]:
    """Choose a reproducible random subset: the images with the lowest content hashes.

    Args:
        entries: the images.
        limit: how many to choose; 0 for all.

    Returns:
        The chosen images, in the order given.
    """
    if not 0 < limit < len(entries):
        return tuple(entries)
    chosen = set(sorted(entries, key=lambda entry: (entry.digest, entry.name))[:limit])
    return tuple(entry for entry in entries if entry in chosen)


def without_copies(
    entries: Sequence[Entry], others: Collection[Entry]
) -> tuple[tuple[Entry, ...], dict[Entry, Entry]]:
    """Separate the images that have an exact copy in another collection.

    Args:
        entries: the images.
        others: the other collection.

    Returns:
        The images without a copy; and the first copy of each image that has one.
    """
    originals: dict[str, Entry] = {}
    for other in others:
        originals.setdefault(other.digest, other)
    copies = {entry: originals[entry.digest] for entry in entries if entry.digest in originals}
    return tuple(entry for entry in entries if entry not in copies), copies
