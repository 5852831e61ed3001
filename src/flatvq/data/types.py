"""The types that every source of images produces: image sets, regions and file statuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from flatvq.deprecation import renamed_attribute

__all__ = [
    "Blocks",
    "DataSplit",
    "FileStatus",
    "ImageSet",
    "InBlocks",
    "Pixels",
    "Region",
    "UnreadableImageError",
    "fingerprint_of",
    "fingerprint_of_bytes",
]

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

_CHUNK = 65536


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

    def transposed(self) -> Region:
        """Return the rectangle with rows and columns exchanged."""
        return Region(self.left, self.top, self.width, self.height)

    def fits(self, height: int, width: int) -> bool:
        """Return whether the rectangle lies inside an image of this size."""
        return self.top + self.height <= height and self.left + self.width <= width

    def of(self, pixels: Pixels) -> Pixels:
        """Return a view of this rectangle of an image [H, W, C]."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class FileStatus:
    """Why a file or a group of files was not used, or was used with changes.

    Example:
        >>> FileStatus("cats/tom.jpg", "", "unreadable", "empty file").status
        'unreadable'
    """

    name: str
    """Path inside the source, printable; for a group, a pattern with a count such as `*.txt (12 files)`."""
    split: str
    """`training`, `validation` or `evaluation`; empty for a file excluded before the source was split."""
    status: Literal["unreadable", "skipped", "converted", "undefined"]
    """`unreadable`: an image that cannot be decoded; `skipped`: left out on purpose; `converted`: used, but
    the pixels differ from the file's samples; `undefined`: used, but a metric has no value for it."""
    reason: str
    """The reason, in a few words."""

    fate = renamed_attribute("fate", "status")


class UnreadableImageError(Exception):
    """An image of a set turned out unreadable when it was loaded."""


class ImageSet(Protocol):
    """Decoded images, by index.

    `flatvq.data.load_image` loads a whole image of a set.
    """

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
        """The files for which `load_region` has raised `UnreadableImageError` so far."""

    @property
    def decoded(self) -> bool:
        """Whether all images are in memory, so that `load_region` decodes nothing."""

    def __len__(self) -> int: ...

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image after scaling; neither is below the crop's."""

    def load_region(self, index: int, region: Region) -> Pixels:
        """Load a region of an image after scaling.

        The pixels equal the same region of the whole image. A source may skip decoding the other pixels.

        Args:
            index: the image.
            region: a rectangle inside `size_of(index)`.

        Returns:
            uint8 [H, W, 3], read-only, of the region's size.

        Raises:
            UnreadableImageError: if the image cannot be decoded (any more). `late_file_statuses` lists it.
        """


@dataclass(frozen=True)
class Blocks:
    """Images that are read in blocks: in which block each of N images is."""

    numbers: np.ndarray[Any, np.dtype[np.int64]]
    """The number of the block of each image [N], in any order."""
    nbytes: np.ndarray[Any, np.dtype[np.int64]]
    """Bytes of the encoded file of each image [N]."""
    window_bytes: int
    """Bytes of encoded files that are shuffled together. No block has more."""

    def of(self, images: np.ndarray[Any, Any]) -> Blocks:
        """Return the blocks of some of the images."""
        return Blocks(self.numbers[images], self.nbytes[images], self.window_bytes)


@runtime_checkable
class InBlocks(Protocol):
    """An `ImageSet` that can read its files in blocks before they are loaded."""

    def blocks(self) -> Blocks | None:
        """Return the blocks; None if each file is read on its own."""

    def upcoming(self, groups: Iterable[np.ndarray[Any, Any]]) -> AbstractContextManager[None]:
        """Read files ahead within the context, in the order in which images will be loaded.

        Args:
            groups: indices of images, each loaded once. Within a group, the order may be another.
        """


def fingerprint_of(digests: Sequence[str], repeats: Sequence[int]) -> str:
    """Hash the content of a set of images. Their order matters; names and dates of files do not.

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
    content = hashlib.sha256()
    for digest, count in zip(digests, repeats, strict=True):
        content.update(f"{digest} {count}\n".encode())
    return content.hexdigest()[:32]


def fingerprint_of_bytes(digests: np.ndarray[Any, Any]) -> str:
    """Return the `fingerprint_of` images that are drawn once in an epoch, in a second for a million.

    Args:
        digests: a hash of each image's content, bytes of length 16 [N].

    Example:
        >>> digests = np.array([bytes(range(16)), bytes(16)], "S16")
        >>> texts = [bytes(range(16)).hex(), bytes(16).hex()]
        >>> fingerprint_of_bytes(digests) == fingerprint_of(texts, [1, 1])
        True
    """
    content = hashlib.sha256()
    for start in range(0, len(digests), _CHUNK):
        part = digests[start : start + _CHUNK].tobytes()
        lines = np.empty((len(part) // 16, 32 + 3), np.uint8)
        lines[:, :32] = np.frombuffer(part.hex().encode(), np.uint8).reshape(-1, 32)
        lines[:, 32:] = np.frombuffer(b" 1\n", np.uint8)
        content.update(lines.tobytes())
    return content.hexdigest()[:32]


@dataclass(frozen=True)
class DataSplit:
    """A source of images, divided into training images and held-out images."""

    training: ImageSet
    """The images that training crops are cut from."""
    validation: ImageSet
    """The held-out images, whose centre crops are evaluated."""
    held_out: str
    """A sentence that says how the held-out images were chosen."""
    file_statuses: tuple[FileStatus, ...]
    """The files that were not used, or used with changes, as far as known when the source was opened."""

    fates = renamed_attribute("fates", "file_statuses")
    late_fates = renamed_attribute("late_fates", "late_file_statuses")

    @property
    def late_file_statuses(self) -> tuple[FileStatus, ...]:
        """The files that turned out unreadable later; the next readable image of the set replaces each."""
        return (*self.training.late_file_statuses, *self.validation.late_file_statuses)
