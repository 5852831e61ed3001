"""The files: `.fvq` with one image, `.fvqs` with a collection. docs/file-format.md describes every field.

    .fvq    head, size, stream lengths, streams, checksum
    .fvqs   head, number of images, [name, size, stream lengths] of each, streams of each, checksum

Streams are in the order of the levels, top first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from flatvq.codec.names import SUFFIX, fault_of, require_names
from flatvq.codec.prior import KINDS, PriorKind
from flatvq.data.conversion import LARGEST_PIXELS
from flatvq.errors import FlatvqError
from flatvq.paths import clash

__all__ = [
    "ID_BYTES",
    "CodedImage",
    "Contents",
    "Entry",
    "pack",
    "read_contents",
    "read_streams",
    "share_of_collection",
]

ID_BYTES = 8
"""Bytes of the identity of tokenizer and prior."""

_MAGIC = b"\x8bFVQ"
_VERSION = 1
_HEAD_BYTES = len(_MAGIC) + 2 + ID_BYTES
_CHECKSUM_BYTES = 4
# The flags: the prior in the low bits, then one bit each.
_PRIOR_BITS, _COLLECTION, _NAMED = 0x0F, 0x10, 0x20
_MOST_LEVELS = 64
_LONGEST_SIDE = 65_536
_LONGEST_NAME = 4096
_CHUNK = 2**20
_DAMAGED = "copy it again, or compress the image again"


@dataclass(frozen=True)
class Entry:
    """One image of a file."""

    name: str
    """Path of the image in a collection, without a suffix if that is unique; empty in a `.fvq` file."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    lengths: tuple[int, ...]
    """Bytes of the stream of each level, top first."""


@dataclass(frozen=True)
class CodedImage:
    """A compressed image."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    streams: tuple[bytes, ...]
    """Stream of each level, top first."""


@dataclass(frozen=True)
class Contents:
    """The description of a file: everything before its streams."""

    version: int
    """Version of the format."""
    collection: bool
    """Whether the file is a `.fvqs` file."""
    prior: PriorKind
    """The prior that its streams need."""
    identity: bytes
    """Identity of tokenizer and prior, `ID_BYTES` long."""
    levels: int
    """Number of levels, and of streams of each image."""
    entries: tuple[Entry, ...]
    """The images."""
    start: int
    """Bytes before the first stream."""
    size: int
    """Bytes of the file."""


def pack(
    prior: PriorKind, identity: bytes, images: Sequence[CodedImage], names: Sequence[str] | None
) -> bytes:
    """Return the content of a file.

    Args:
        prior: the prior of the streams.
        identity: the identity of tokenizer and prior, `ID_BYTES` long.
        images: the images, with the same number of levels; exactly one for a `.fvq` file.
        names: their names, for a `.fvqs` file; all empty for a file without names. None for a `.fvq` file.

    Raises:
        FlatvqError: if a name is not valid.

    Example:
        >>> from io import BytesIO
        >>> content = pack("none", bytes(8), [CodedImage(3, 2, (b"abc",))], names=None)
        >>> len(content), read_contents(BytesIO(content), "it").entries
        (25, (Entry(name='', width=3, height=2, lengths=(3,)),))
    """
    named = names is not None and any(names)
    if names is not None and named:
        require_names(names)
    flags = KINDS.index(prior) | (_COLLECTION if names is not None else 0) | (_NAMED if named else 0)
    head = bytearray(_MAGIC + bytes([_VERSION, flags]) + identity)
    head += _varint(len(images[0].streams) if images else 0)
    if names is not None:
        head += _varint(len(images))
    before = (0, 0)
    for image, name in zip(images, names if names is not None else [""], strict=True):
        if named:
            head += _varint(len(name.encode())) + name.encode()
        head += _entry(image, before)
        before = (image.width, image.height)
    content = b"".join([bytes(head), *(stream for image in images for stream in image.streams)])
    return content + zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")


def share_of_collection(image: CodedImage, before: tuple[int, int], count: int) -> float:
    """Return the bytes of an image in a collection: its entry, its streams, and its share of the rest.

    Args:
        image: the image. It has no name.
        before: width and height of the image before it; (0, 0) for the first one.
        count: the number of images in the collection.

    Example:
        >>> image = CodedImage(3, 2, (b"abc",))
        >>> shares = [share_of_collection(image, before, 2) for before in ((0, 0), (3, 2))]
        >>> sum(shares) == len(pack("none", bytes(8), [image, image], ["", ""]))
        True
    """
    rest = _HEAD_BYTES + len(_varint(len(image.streams))) + len(_varint(count)) + _CHECKSUM_BYTES
    return len(_entry(image, before)) + sum(map(len, image.streams)) + rest / count


def read_contents(file: BinaryIO, origin: str) -> Contents:
    """Read everything before the streams, and verify the checksum of the whole file.

    Args:
        file: the file, seekable. Afterwards it is at the first stream.
        origin: the name of the file in error messages.

    Raises:
        FlatvqError: if the file is not a compressed image, is damaged, has a newer format, or a size in it is
            not possible.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if head[: len(_MAGIC)] != _MAGIC:
        raise FlatvqError(f"{origin} is not a compressed image of flatvq", "give a .fvq or .fvqs file")
    if size < _HEAD_BYTES + _CHECKSUM_BYTES:
        raise FlatvqError(f"{origin} is cut off after {size} bytes", _DAMAGED)
    version, flags = head[len(_MAGIC)], head[len(_MAGIC) + 1]
    kind = flags & _PRIOR_BITS
    if version != _VERSION or kind >= len(KINDS) or flags & ~(_PRIOR_BITS | _COLLECTION | _NAMED):
        what = (
            f"{origin} has version {version} and flags {flags:#04x}, and this flatvq reads version {_VERSION}"
        )
        raise FlatvqError(what, "upgrade flatvq")
    _verify_checksum(file, size, origin)
    file.seek(_HEAD_BYTES)
    fields = _Fields(file, size - _CHECKSUM_BYTES, origin)
    levels = fields.number("the number of levels", _MOST_LEVELS)
    collection = bool(flags & _COLLECTION)
    # An image of a collection takes a byte for its size and one for each level.
    most = (size - file.tell()) // (1 + levels) if collection else 1
    count = fields.number("the number of images", most) if collection else 1
    entries = tuple(_entries(fields, count, levels, bool(flags & _NAMED)))
    if bool(flags & _NAMED) and (pair := clash(entry.name + SUFFIX for entry in entries)):
        names = " and ".join(repr(path.removesuffix(SUFFIX)[:80]) for path in pair)
        raise fields.error(f"the names {names}, which cannot exist together on every system")
    start = file.tell()
    total = sum(sum(entry.lengths) for entry in entries)
    if total != size - _CHECKSUM_BYTES - start:
        what = f"{origin} has streams of {size - _CHECKSUM_BYTES - start} bytes, and lists {total}"
        raise FlatvqError(what, _DAMAGED)
    return Contents(version, collection, KINDS[kind], head[-ID_BYTES:], levels, entries, start, size)


def read_streams(file: BinaryIO, entry: Entry) -> CodedImage:
    """Read the streams of an image. The file must be positioned at the first of them."""
    streams = tuple(file.read(length) for length in entry.lengths)
    return CodedImage(entry.width, entry.height, streams)


def _entry(image: CodedImage, before: tuple[int, int]) -> bytes:
    """Write size and stream lengths. The size is left out if the previous image has the same size."""
    size = (image.width, image.height)
    fields = [0] if size == before else [*size]
    return b"".join(_varint(field) for field in [*fields, *map(len, image.streams)])


def _entries(fields: _Fields, count: int, levels: int, named: bool) -> Iterator[Entry]:
    width = height = 0
    for _ in range(count):
        name = fields.name() if named else ""
        first = fields.number("a width", _LONGEST_SIDE)
        if first:
            width, height = first, fields.number("a height", _LONGEST_SIDE)
        if not 0 < width * height <= LARGEST_PIXELS:
            raise fields.error(f"an image of {width} x {height} pixels")
        yield Entry(name, width, height, tuple(fields.number("a length", fields.end) for _ in range(levels)))


class _Fields:
    """Reads the fields of a file, up to its streams."""

    def __init__(self, file: BinaryIO, end: int, origin: str) -> None:
        self._file, self.end, self._origin = file, end, origin

    def number(self, what: str, largest: int) -> int:
        """Read a varint."""
        value = shift = 0
        while True:
            if self._file.tell() >= self.end:
                raise self.error("no streams")
            (byte,) = self._file.read(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if value > largest or (byte == 0 and shift > 7) or shift > 63:
                raise self.error(f"{what} of more than {largest}, or written in an unusual way")
            if byte < 0x80:
                return value

    def name(self) -> str:
        """Read a name."""
        length = self.number("a name", min(_LONGEST_NAME, self.end))
        try:
            name = self._file.read(length).decode()
        except UnicodeDecodeError:
            raise self.error("a name that is not UTF-8") from None
        if fault := fault_of(name):
            raise self.error(f"the name {name[:80]!r}, which no file can have on every system (it {fault})")
        return name

    def error(self, what: str) -> FlatvqError:
        """Return the error for a field."""
        return FlatvqError(f"{self._origin} holds {what}", _DAMAGED)


def _verify_checksum(file: BinaryIO, size: int, origin: str) -> None:
    file.seek(0)
    remaining, checksum = size - _CHECKSUM_BYTES, 0
    while remaining:
        chunk = file.read(min(_CHUNK, remaining))
        if not chunk:
            raise FlatvqError(f"{origin} has changed while it was read", "read it again")
        checksum, remaining = zlib.crc32(chunk, checksum), remaining - len(chunk)
    if file.read(_CHECKSUM_BYTES) != checksum.to_bytes(_CHECKSUM_BYTES, "little"):
        raise FlatvqError(f"{origin} is damaged (its checksum does not match)", _DAMAGED)


def _varint(value: int) -> bytes:
    """Write an integer in groups of seven bits, least significant first. All bytes but the last have bit 7.

    Example:
        >>> _varint(300).hex()
        'ac02'
    """
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(groups + bytes([value]))
