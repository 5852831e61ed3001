"""What every source of images becomes: sets of images, and the file of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

__all__ = [
    "DataSplit",
    "FileStatus",
    "ImageSet",
    "Pixels",
    "Region",
    "Wanted",
    "cut_out",
    "fingerprint_of",
    "whole",
]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"


@dataclass(frozen=True)
class Region:
    """A rectangle of an image, in pixels.

    Example:
        >>> image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
        >>> Region(top=1, left=2, height=2, width=1).of(image).ravel().tolist()
        [6, 10]
    """

    top: int
    left: int
    height: int
    width: int

    def turned(self) -> Region:
        """Return the rectangle with rows and columns exchanged."""
        return Region(self.left, self.top, self.width, self.height)

    def of(self, pixels: Pixels) -> Pixels:
        """Return a view of what it covers of [H, W, C]."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


Wanted: TypeAlias = Callable[[int, int], Region]
"""Says what part of an image is wanted, once its height and width after scaling are known.

Of the same height and width it has to say the same again."""


def whole(height: int, width: int) -> Region:
    """Want all of an image."""
    return Region(0, 0, height, width)


def cut_out(pixels: Pixels, wanted: Wanted) -> Pixels:
    """Return a view of what is wanted of an image, [H, W, C]."""
    height, width, _ = pixels.shape
    return wanted(height, width).of(pixels)


@dataclass(frozen=True)
class FileStatus:
    """What became of a file (or of a group of files) that was not used as it is.

    Example:
        >>> FileStatus("cats/tom.jpg", "", "unreadable", "empty file").status
        'unreadable'
    """

    name: str
    """Path inside the source, printable; for a group, a pattern with a count such as `*.txt (12 files)`."""
    split: str
    """`training`, `validation` or `evaluation`; empty for what was not fit to stand on any side."""
    status: Literal["unreadable", "skipped", "converted", "undefined"]
    """`unreadable`: meant as an image, but it cannot be decoded; `skipped`: left out on purpose; `converted`:
    used, but its pixels are not the file's samples as they stand; `undefined`: used, but a metric has no
    value for it."""
    reason: str
    """Why, in a few words."""


class ImageSet(Protocol):
    """Decoded images, by number."""

    @property
    def names(self) -> Sequence[str]:
        """Printable names, unique within the set."""

    @property
    def repeats(self) -> Sequence[int]:
        """How often each image is drawn in an epoch."""

    @property
    def digests(self) -> Sequence[str]:
        """A hash of each image's content, in hexadecimal digits."""

    @property
    def fingerprint(self) -> str:
        """`fingerprint_of` the digests and repeats; equal for sets of the same images in the same order."""

    @property
    def late_file_statuses(self) -> Sequence[FileStatus]:
        """Files that turned out unreadable only when they were drawn; it may grow."""

    @property
    def decoded(self) -> bool:
        """Whether all images are in memory, so that `load` only looks them up."""

    def __len__(self) -> int: ...

    def load(self, index: int, wanted: Wanted = whole) -> Pixels:
        """Return an image or a part of it, uint8 [H, W, 3], read-only, after scaling.

        Of the whole image, neither side is below the crop's. Whether a part is asked for changes none of its
        pixels, but may save decoding the others.
        """


def fingerprint_of(digests: Sequence[str], repeats: Sequence[int]) -> str:
    """Hash the content of a set of images. Their order counts; names and dates of files do not.

    Args:
        digests: a hash of each image's content.
        repeats: how often each image is drawn in an epoch.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> fingerprint_of(["a0", "b1"], [1, 2])
        '92c12b6e00f8a0285bf3edffb4fee579'
        >>> fingerprint_of(["b1", "a0"], [2, 1]) == fingerprint_of(["a0", "b1"], [1, 2])
        False
    """
    lines = (f"{digest} {count}\n" for digest, count in zip(digests, repeats, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class DataSplit:
    """A source, divided into what is trained on and what is held out."""

    training: ImageSet
    """Cut random crops from these."""
    validation: ImageSet
    """Evaluate on the centre crops of these."""
    held_out: str
    """A sentence that says how validation is kept apart."""
    file_statuses: tuple[FileStatus, ...]
    """Every file that was not used as it is, as far as it was known when the source was opened."""

    @property
    def late_file_statuses(self) -> tuple[FileStatus, ...]:
        """Files that turned out unreadable since; the next readable image of the set replaces each."""
        return (*self.training.late_file_statuses, *self.validation.late_file_statuses)
