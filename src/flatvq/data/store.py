"""Decoded images in memory: decoded once if they fit the cache, and on demand if they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import numpy as np

from flatvq.data.conversion import Conversion, Rejected
from flatvq.data.decoding import Decode, cut
from flatvq.data.deprecated import LoadMethod
from flatvq.data.in_order import groups_in_order
from flatvq.data.manifest import Array
from flatvq.data.reasons import reason_of
from flatvq.data.selection import Content, ReadAhead, Selection, Texts
from flatvq.data.survey import decoding_threads
from flatvq.data.types import Blocks, FileStatus, Pixels, Region, UnreadableImageError
from flatvq.errors import FlatvqError

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
        self._cache: dict[tuple[Content, int, Decode], Pixels] = {}
        # Images that are read in blocks are all cached or none: a cached image need not be read ahead.
        self._uncached: set[Content] = set()
        self._lock = Lock()

    def pixels(
        self, images: Selection, position: int, decode: Decode, region: Region | None = None
    ) -> Pixels:
        """Return an image or a region of it: uint8 [H, W, 3], read-only.

        An image that fits the cache is decoded as a whole and cached.

        Args:
            images: images of one source.
            position: the image.
            decode: how to decode it.
            region: the region to return, after scaling; None for the whole image.

        Raises:
            Rejected: if it cannot be decoded.
        """
        row = int(images.rows[position])
        key = (images.content, row, decode)
        cached = self._cache.get(key)
        if cached is not None:
            return cut(cached, region)
        nbytes = images.manifest.nbytes(images.rows[position : position + 1])[0]
        fits = nbytes <= self._free_bytes and images.content not in self._uncached
        try:
            with images.content.open(row) as stream:
                pixels = decode(stream, self._conversion, None if fits else region)
        except (Rejected, FlatvqError):  # the latter if a shard has vanished
            raise
        except Exception as error:  # the user's disk, archive or dataset library may raise anything
            raise Rejected(f"cannot be opened ({reason_of(error, images.name(position))})") from None
        if not fits:
            return pixels
        with self._lock:
            if key not in self._cache and pixels.nbytes <= self._free_bytes:
                self._free_bytes -= pixels.nbytes
                self._cache[key] = _compact(pixels)
        return cut(pixels, region)

    def holds(self, images: Selection, position: int, decode: Decode) -> bool:
        """Return whether an image is cached, decoded in this way."""
        return (images.content, int(images.rows[position]), decode) in self._cache

    def decode_all(self, selections: Sequence[tuple[Selection, Decode]]) -> list[dict[int, Rejected]]:
        """Decode all of these images now if they fit the cache together; otherwise do nothing.

        Args:
            selections: images, and how to decode them.

        Returns:
            For each selection, the positions of the images that cannot be decoded, and why.
        """
        if sum(images.manifest.nbytes(images.rows).sum() for images, _ in selections) > self._free_bytes:
            self._uncached |= {
                images.content for images, _ in selections if isinstance(images.content, ReadAhead)
            }
            return [{} for _ in selections]
        with ThreadPoolExecutor(decoding_threads()) as pool:
            return [self._decode_selection(images, decode, pool) for images, decode in selections]

    def _decode_selection(
        self, images: Selection, decode: Decode, pool: ThreadPoolExecutor
    ) -> dict[int, Rejected]:
        positions = range(len(images))
        with _reading(images):
            rejections = pool.map(lambda position: self._rejection(images, position, decode), positions)
            return {
                position: rejected
                for position, rejected in zip(positions, rejections, strict=True)
                if rejected
            }

    def _rejection(self, images: Selection, position: int, decode: Decode) -> Rejected | None:
        """Decode an image into the cache; return why it cannot be decoded, or None."""
        try:
            self.pixels(images, position, decode)
        except Rejected as rejected:
            return rejected
        return None


def _reading(images: Selection) -> AbstractContextManager[None]:
    """Read files ahead that are opened in order, if the source can."""
    content, rows = images.content, images.rows
    if not isinstance(content, ReadAhead):
        return nullcontext()
    groups = groups_in_order(content.blocks(rows), np.arange(len(rows)))
    return content.upcoming(rows[group] for group in groups)


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
        images: the images, at least one.
        decoder: decodes and caches them. Several sets may share one decoder and its cache.
        decode: how to decode them.
        split: the name of the set in file statuses.
    """

    def __init__(self, images: Selection, decoder: Decoder, decode: Decode, split: str) -> None:
        self._images = images
        self._decoder = decoder
        self._decode = decode
        self._split = split
        self._late: dict[int, FileStatus] = {}
        self.names = Texts(len(images), images.name)
        self.repeats = (1,) * len(images)
        self.digests = Texts(len(images), lambda position: images.manifest.digest(images.rows[position]))
        self.fingerprint = images.fingerprint

    @property
    def late_file_statuses(self) -> tuple[FileStatus, ...]:
        """The files that turned out unreadable when they were loaded."""
        return tuple(self._late.values())

    @property
    def decoded(self) -> bool:
        """Whether all images are in memory by now."""
        positions = range(len(self._images))
        return all(self._decoder.holds(self._images, position, self._decode) for position in positions)

    def __len__(self) -> int:
        return len(self._images)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image after scaling."""
        return self._images.manifest.size(self._images.rows[index])

    def load_region(self, index: int, region: Region) -> Pixels:
        """Load a region of an image, uint8 [H, W, 3], read-only.

        Raises:
            UnreadableImageError: if the file cannot be decoded any more.
        """
        try:
            return self._decoder.pixels(self._images, index, self._decode, region)
        except Rejected as rejected:
            name = self.names[index]
            self._late[index] = FileStatus(name, self._split, "unreadable", rejected.reason)
            raise UnreadableImageError(f"'{name}': {rejected.reason}") from None

    def blocks(self) -> Blocks | None:
        """Return the blocks in which files are read; None if each is read on its own."""
        content = self._images.content
        return content.blocks(self._images.rows) if isinstance(content, ReadAhead) else None

    def upcoming(self, groups: Iterable[Array]) -> AbstractContextManager[None]:
        """Read files ahead within the context, in the order in which images will be loaded.

        Args:
            groups: indices of images, each loaded once. Within a group, the order may be another.
        """
        content, rows = self._images.content, self._images.rows
        if self.decoded or not isinstance(content, ReadAhead):
            return nullcontext()
        return content.upcoming(rows[group] for group in groups)
