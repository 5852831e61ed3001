"""Which images are held out: by a hash of their content, so that exact copies stand on the same side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flatvq.data.manifest import Entry
from flatvq.errors import FlatvqError

__all__ = ["Sides", "divide", "first_by_hash", "is_held_out", "without_copies"]


@dataclass(frozen=True)
class Sides:
    """The images of a source on either side."""

    training: tuple[Entry, ...]
    """In the source's order."""
    validation: tuple[Entry, ...]
    """In the source's order."""

    def __iter__(self) -> Iterator[Entry]:
        yield from self.training
        yield from self.validation


def is_held_out(digest: str, share: float) -> bool:
    """Say on which side content with this hash stands.

    Example:
        >>> is_held_out("00" * 16, share=0.1), is_held_out("ff" * 16, share=0.1)
        (True, False)
    """
    return int(digest, 16) / 16.0 ** len(digest) < share


def divide(entries: Sequence[Entry], share: float, where: str) -> Sides:
    """Hold out about a share of the images, at least one, and leave at least one.

    Each image's side follows from its own content, so more files do not move the others. Only where a side
    would be empty does the content nearest to it in hash order, with all its copies, change over.

    Args:
        entries: the images.
        share: how much to hold out, in (0, 1).
        where: what to call the source in an error.

    Returns:
        Both sides, neither empty.

    Raises:
        FlatvqError: if there are not two different images.
    """
    digests = sorted({entry.digest for entry in entries})
    if len(digests) < 2:
        what = f"{where} holds {len(entries)} readable images, {len(digests)} of them different"
        raise FlatvqError(
            what, "at least two are needed to hold one out; add images or give data.validation_path"
        )
    held = {digest for digest in digests if is_held_out(digest, share)}
    # The highest is held out only if all are, the lowest is not only if none is: this fills an empty side.
    held = held - {digests[-1]} | {digests[0]}
    return Sides(
        training=tuple(entry for entry in entries if entry.digest not in held),
        validation=tuple(entry for entry in entries if entry.digest in held),
    )


def first_by_hash(entries: Sequence[Entry], limit: int) -> tuple[Entry, ...]:
    """Choose images as if by lot, but the same ones each time: those whose content hashes are lowest.

    Args:
        entries: the images.
        limit: how many to choose; 0 for all.

    Returns:
        The chosen ones, in the order given.
    """
    if not 0 < limit < len(entries):
        return tuple(entries)
    chosen = set(sorted(entries, key=lambda entry: (entry.digest, entry.name))[:limit])
    return tuple(entry for entry in entries if entry in chosen)


def without_copies(
    entries: Sequence[Entry], others: Collection[Entry]
) -> tuple[tuple[Entry, ...], dict[Entry, Entry]]:
    """Tell apart the images that have no exact copy among others, and those that have.

    Args:
        entries: the images to look through.
        others: where to look for copies.

    Returns:
        The images without a copy, and the others' copy of each that has one.
    """
    first: dict[str, Entry] = {}
    for other in others:
        first.setdefault(other.digest, other)
    copies = {entry: first[entry.digest] for entry in entries if entry.digest in first}
    return tuple(entry for entry in entries if entry not in copies), copies
