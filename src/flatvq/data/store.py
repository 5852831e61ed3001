"""Decoded images in memory: decoded once if they fit the cache, and on demand if they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import Decode, cut
from flatvq.data.deprecated import LoadMethod
from flatvq.data.manifest import Entry, decoding_threads
from flatvq.data.reasons import reason_of
from flatvq.data.types import FileStatus, Pixels, Region, UnreadableImageError, fingerprint_of

__all__ = ["Decoder", "StoredImages"]

_MIB = 2**20


class Decoder:
    """Decodes images and caches them until the cache is full.

    Nothing is evicted. All images are drawn about equally often, so no eviction policy is better than
    another, and this one has no state that depends on the order of draws.

    Args:
        conversion: the size and white level to convert images to.
        cache_mib: size of the cache, in MiB of decoded pixels.
    """

    def __init__(self, conversion: Conversion, cache_mib: int) -> None:
        self._conversion = conversion
        self._free_bytes = cache_mib * _MIB
        # The key includes the decode function: both splits share the cache, but decode differently.
        self._cache: dict[tuple[Entry, Decode], Pixels] = {}
        self._lock = Lock()

    def pixels(self, entry: Entry, decode: Decode, region: Region | None = None) -> Pixels:
        """Return an image or a region of it: uint8 [H, W, 3], read-only.

        An image that fits the cache is decoded as a whole and cached.

        Args:
            entry: the file of the image.
            decode: how to decode it.
            region: the region to return, after scaling; None for the whole image.

        Raises:
            Rejected: if it cannot be decoded.
        """
        cached = self._cache.get((entry, decode))
        if cached is not None:
            return cut(cached, region)
        fits = entry.nbytes <= self._free_bytes
        try:
            with entry.open() as stream:
                pixels = decode(stream, self._conversion, None if fits else region)
        except Rejected:
            raise
        except Exception as error:  # the user's disk, archive or dataset library may raise anything
            raise Rejected(f"cannot be opened ({reason_of(error, entry.name)})") from None
        if not fits:
            return pixels
        with self._lock:
            if (entry, decode) not in self._cache and pixels.nbytes <= self._free_bytes:
                self._free_bytes -= pixels.nbytes
                self._cache[entry, decode] = _compact(pixels)
        return cut(pixels, region)

    def holds(self, entries: Iterable[Entry], decode: Decode) -> bool:
        """Return whether all of these images are cached, decoded in this way."""
        return all((entry, decode) in self._cache for entry in entries)

    def decode_all(self, images: Mapping[Entry, Decode]) -> dict[Entry, Rejected]:
        """Decode all of these images now if they fit the cache together; otherwise do nothing.

        Args:
            images: the images, and how to decode each.

        Returns:
            The images that cannot be decoded, and why.
        """
        if sum(entry.nbytes for entry in images) > self._free_bytes:
            return {}
        with ThreadPoolExecutor(decoding_threads()) as pool:
            rejections = pool.map(self._rejection, images.keys(), images.values())
            return {entry: rejected for entry, rejected in zip(images, rejections, strict=True) if rejected}

    def _rejection(self, entry: Entry, decode: Decode) -> Rejected | None:
        """Decode an image into the cache; return why it cannot be decoded, or None."""
        try:
            self.pixels(entry, decode)
        except Rejected as rejected:
            return rejected
        return None


def _compact(pixels: Pixels) -> Pixels:
    """Return an image that owns exactly its bytes: `pixels` may be a view of a padded array."""
    compact = np.ascontiguousarray(pixels)
    compact.flags.writeable = False
    return compact


class StoredImages(LoadMethod):
    """An `ImageSet` of files.

    If the images do not fit the cache, a file may turn out unreadable during training. `load_region` then
    raises, and `late_file_statuses` lists the file.

    Args:
        entries: the images, at least one.
        decoder: decodes and caches them. Several sets may share one decoder and its cache.
        decode: how to decode them.
        split: the name of the set in file statuses.
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
        """The files that turned out unreadable when they were loaded."""
        return tuple(self._late.values())

    @property
    def decoded(self) -> bool:
        """Whether all images are in memory by now."""
        return self._decoder.holds(self._entries, self._decode)

    def __len__(self) -> int:
        return len(self._entries)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image after scaling."""
        return self._entries[index].height, self._entries[index].width

    def load_region(self, index: int, region: Region) -> Pixels:
        """Load a region of an image, uint8 [H, W, 3], read-only.

        Raises:
            UnreadableImageError: if the file cannot be decoded any more.
        """
        entry = self._entries[index]
        try:
            return self._decoder.pixels(entry, self._decode, region)
        except Rejected as rejected:
            self._late[entry] = FileStatus(entry.name, self._split, "unreadable", rejected.reason)
            raise UnreadableImageError(f"'{entry.name}': {rejected.reason}") from None
