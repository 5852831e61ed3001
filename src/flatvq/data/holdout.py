"""Choose held-out images by a hash of their content, so that exact copies are on the same side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flatvq.data.manifest import Array
from flatvq.data.selection import Selection
from flatvq.errors import FlatvqError

__all__ = ["Sides", "divide", "first_by_hash", "has_several_contents", "is_held_out", "without_copies"]

_BITS = 128


@dataclass(frozen=True)
class Sides:
    """The images of a source, divided into training and validation, each in the source's order."""

    training: Selection
    validation: Selection


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


def has_several_contents(images: Selection) -> bool:
    """Return whether two of the images differ in content."""
    digests = images.digests
    return bool((digests != digests[:1]).any())


def divide(images: Selection, share: float, title: str) -> Sides:
    """Hold out about a share of the images: at least one, but not all.

    The side of an image depends on its content alone, so adding files does not move other images. The only
    exception: if a side would be empty, the content next to it in hash order, with all copies, is moved
        there.

    Args:
        images: the images.
        share: the share to hold out, in (0, 1).
        title: the name of the source in an error.

    Returns:
        Both sides, neither empty.

    Raises:
        FlatvqError: if there are fewer than two different images.
    """
    digests = images.digests
    if not has_several_contents(images):
        number = "1 distinct" if len(digests) else "no"
        what = f"{title} holds {number} readable image; at least two are needed, to hold one out"
        raise FlatvqError(what, "add images or give data.validation_path")
    held = digests < _first_kept(share)
    # Fill an empty side: the highest hash is held out only if all are, the lowest is not only if none is.
    if held.all():
        held = digests != _highest(digests)
    elif not held.any():
        held = digests == _lowest(digests)
    return Sides(training=images.where(~held), validation=images.where(held))


def _first_kept(share: float) -> bytes:
    """Return the lowest hash that is not held out."""
    lowest = 0
    for bit in reversed(range(_BITS)):
        if is_held_out(f"{lowest + (1 << bit) - 1:0{_BITS // 4}x}", share):
            lowest += 1 << bit
    return lowest.to_bytes(_BITS // 8, "big")


def _lowest(digests: Array) -> bytes:
    return bytes(digests[np.argmin(digests)])


def _highest(digests: Array) -> bytes:
    return bytes(digests[np.argmax(digests)])


def first_by_hash(images: Selection, limit: int) -> Selection:
    """Choose a reproducible random subset: the images with the lowest content hashes.

    Args:
        images: the images.
        limit: how many to choose; 0 for all.

    Returns:
        The chosen images, in the order given. Of copies, those with the first names are chosen.
    """
    if not 0 < limit < len(images):
        return images
    digests = images.digests
    last = np.sort(digests)[limit - 1]
    chosen = digests < last
    copies = sorted(np.flatnonzero(digests == last).tolist(), key=images.name)
    chosen[copies[: limit - np.count_nonzero(chosen)]] = True
    return images.where(chosen)


def without_copies(images: Selection, others: Selection) -> tuple[Selection, dict[str, str]]:
    """Separate the images that have an exact copy in another collection.

    Args:
        images: the images.
        others: the other collection.

    Returns:
        The images without a copy; and the name of the first copy of each image that has one, by its name.
    """
    copied = np.isin(images.digests, others.digests)
    originals: dict[bytes, int] = {}
    digests = others.digests
    if copied.any():
        for position in np.flatnonzero(np.isin(others.digests, images.digests)).tolist():
            originals.setdefault(bytes(digests[position]), position)
    digests = images.digests
    copies = {
        images.name(position): others.name(originals[bytes(digests[position])])
        for position in np.flatnonzero(copied).tolist()
    }
    return images.where(~copied), copies
