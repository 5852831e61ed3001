"""Some images of a source, in order: rows of its manifest, and the files that they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, overload, runtime_checkable

import numpy as np

from flatvq.data.manifest import Array, Manifest
from flatvq.data.types import Blocks, FileStatus, fingerprint_of_bytes

__all__ = ["Content", "ReadAhead", "Selection", "Texts", "selection"]


class Content(Protocol):
    """The files of a manifest."""

    def open(self, row: int, /) -> BinaryIO:
        """Open a file for reading bytes; the stream is seekable."""


@runtime_checkable
class ReadAhead(Protocol):
    """`Content` that reads files in blocks, before they are opened."""

    def blocks(self, rows: Array) -> Blocks:
        """Return the blocks of some files."""

    def upcoming(self, groups: Iterable[Array]) -> AbstractContextManager[None]:
        """Read files ahead within the context, in the order in which they will be opened.

        Args:
            groups: rows, each opened once. Within a group, the order of opening may be another.
        """


@dataclass(frozen=True, eq=False)
class Selection:
    """Some images of a source, in order."""

    manifest: Manifest
    """All images of the source."""
    content: Content
    """Their files."""
    rows: Array
    """int64 [N], rows of the manifest."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digests(self) -> Array:
        """Hashes of their content, bytes of length 16 [N]."""
        digests: Array = self.manifest.digests[self.rows]
        return digests

    @property
    def fingerprint(self) -> str:
        """The `fingerprint_of` the images, each of which is drawn once in an epoch."""
        return fingerprint_of_bytes(self.digests)

    def name(self, position: int) -> str:
        """Return the name of an image."""
        return self.manifest.name(self.rows[position])

    def where(self, chosen: Array) -> Selection:
        """Return some of the images, chosen by a mask or by positions."""
        return Selection(self.manifest, self.content, self.rows[chosen])

    def converted(self, split: str) -> Iterator[FileStatus]:
        """Yield the status of each image that is used with conversions."""
        manifest = self.manifest
        has_notes = np.array([bool(notes) for notes in manifest.kinds], bool)
        if has_notes.any():
            for row in self.rows[has_notes[manifest.notes[self.rows]]]:
                notes = "; ".join(manifest.notes_of(row))
                yield FileStatus(manifest.name(row), split, "converted", notes)


def selection(manifest: Manifest, content: Content) -> Selection:
    """Return all images of a source."""
    return Selection(manifest, content, np.arange(len(manifest)))


class Texts(Sequence[str]):
    """Texts that are made when they are read. They equal a tuple of the same texts.

    Args:
        length: their number.
        text: returns the text at a position.

    Example:
        >>> texts = Texts(3, "n{}".format)
        >>> texts[-1], texts[:2], texts == ("n0", "n1", "n2")
        ('n2', ('n0', 'n1'), True)
    """

    def __init__(self, length: int, text: Callable[[int], str]) -> None:
        self._length, self._text = length, text

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[str, ...]: ...
    def __getitem__(self, position: int | slice) -> str | tuple[str, ...]:
        positions = range(self._length)[position]
        return self._text(positions) if isinstance(positions, int) else tuple(map(self._text, positions))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
