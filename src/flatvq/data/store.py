"""Decoded images in memory: all at once where they fit the cache, on demand where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import Decode
from flatvq.data.manifest import Entry, threads
from flatvq.data.reasons import reason_of
from flatvq.data.types import FileStatus, Pixels, Wanted, cut_out, fingerprint_of, whole
from flatvq.errors import FlatvqError

__all__ = ["Decoder", "StoredImages"]

_MIB = 2**20


class Decoder:
    """Decodes images and keeps the first of them, up to a budget.

    Nothing is ever evicted: every image is drawn about equally often, so that no choice of which to keep is
    better than another, and the simplest has no state that depends on the order of draws.

    Args:
        conversion: what images are converted to.
        cache_mib: the budget, in MiB of decoded pixels.
    """

    def __init__(self, conversion: Conversion, cache_mib: int) -> None:
        self._conversion = conversion
        self._room = cache_mib * _MIB
        # By the way of decoding too: the two sides have different ones, and share the budget.
        self._kept: dict[tuple[Entry, Decode], Pixels] = {}
        self._lock = Lock()

    def pixels(self, entry: Entry, decode: Decode, wanted: Wanted = whole) -> Pixels:
        """Return an image, or a part of it: uint8 [H, W, 3], read-only.

        Args:
            entry: its file.
            decode: how to decode it.
            wanted: what part of it is to be returned; all is decoded if all can be kept.

        Raises:
            Rejected: if it cannot be decoded.
        """
        kept = self._kept.get((entry, decode))
        if kept is not None:
            return cut_out(kept, wanted)
        fits = entry.nbytes <= self._room
        try:
            with entry.open() as stream:
                pixels = decode(stream, self._conversion, whole if fits else wanted)
        except Rejected:
            raise
        except Exception as error:  # the user's disk, archive or dataset library may raise anything
            raise Rejected(f"cannot be opened ({reason_of(error, entry.name)})") from None
        if not fits:
            return pixels
        with self._lock:
            if (entry, decode) not in self._kept and pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._kept[entry, decode] = _compact(pixels)
        return cut_out(pixels, wanted)

    def holds(self, entries: Iterable[Entry], decode: Decode) -> bool:
        """Tell whether all of these are kept, as this way of decoding leaves them."""
        return all((entry, decode) in self._kept for entry in entries)

    def decode_all(self, wanted: Mapping[Entry, Decode]) -> dict[Entry, Rejected]:
        """Decode all of these now if they fit the budget; do nothing if they do not.

        Args:
            wanted: the images, and how to decode each.

        Returns:
            Those that cannot be decoded, and why.
        """
        if sum(entry.nbytes for entry in wanted) > self._room:
            return {}
        with ThreadPoolExecutor(threads()) as pool:
            verdicts = pool.map(self._try, wanted.keys(), wanted.values())
            return {entry: verdict for entry, verdict in zip(wanted, verdicts, strict=True) if verdict}

    def _try(self, entry: Entry, decode: Decode) -> Rejected | None:
        try:
            self.pixels(entry, decode)
        except Rejected as rejected:
            return rejected
        return None


def _compact(pixels: Pixels) -> Pixels:
    """Return an image that keeps nothing alive but its own bytes: it may be a view of wider pixels."""
    compact = np.ascontiguousarray(pixels)
    compact.flags.writeable = False
    return compact


class StoredImages:
    """An `ImageSet` of files.

    Where not everything fits the cache, a file may turn out unreadable in the middle of a training; then the
    next readable one stands in for it, always the same, and `late_file_statuses` tells.

    Args:
        entries: the images, at least one.
        decoder: decodes and keeps them; sets may share one, and its budget.
        decode: how it decodes them.
        split: what to call the set in file_statuses.
    """

    def __init__(self, entries: Sequence[Entry], decoder: Decoder, decode: Decode, split: str) -> None:
        self._entries = tuple(entries)
        self._decoder = decoder
        self._decode = decode
        self._split = split
        self._late: dict[Entry, FileStatus] = {}
        self.names = tuple(entry.name for entry in self._entries)
        self.repeats = (1,) * len(self._entries)
        self.digests = tuple(entry.digest for entry in self._entries)
        self.fingerprint = fingerprint_of(self.digests, self.repeats)

    @property
    def late_file_statuses(self) -> tuple[FileStatus, ...]:
        """Files that turned out unreadable only when they were drawn."""
        return tuple(self._late.values())

    @property
    def decoded(self) -> bool:
        """Whether all images are in memory by now."""
        return self._decoder.holds(self._entries, self._decode)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, index: int, wanted: Wanted = whole) -> Pixels:
        """Return an image or a part of it, uint8 [H, W, 3], read-only, or the next readable one in its place.

        Raises:
            FlatvqError: if none of the set can be read any more.
        """
        for offset in range(len(self)):
            entry = self._entries[(index + offset) % len(self)]
            try:
                return self._decoder.pixels(entry, self._decode, wanted)
            except Rejected as rejected:
                self._late[entry] = FileStatus(entry.name, self._split, "unreadable", rejected.reason)
        first = next(iter(self._late.values()))
        what = f"none of the {len(self)} {self._split} images can be read any more, such as '{first.name}'"
        raise FlatvqError(f"{what} ({first.reason})", "check the disk")
