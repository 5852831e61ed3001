"""The members of a tar shard, in the layout of WebDataset or any other."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO

from flatvq.data.conversion import HiddenError, Rejected
from flatvq.data.reasons import printable, reason_of
from flatvq.data.shard import Place, Shard
from flatvq.data.survey import Item
from flatvq.data.walk import claims_an_image, is_hidden
from flatvq.errors import FlatvqError

__all__ = ["read_members", "tar_items"]

_BLOCK = 512
# Bytes between two images that are read with them, because a request takes longer.
_GAP = 256 * 1024
_CHUNK = 2**20


def tar_items(shard: Shard, suffix: str) -> Iterator[tuple[Item, Place]]:
    """Yield the files in a tar shard, in its order.

    Args:
        shard: the shard.
        suffix: the suffix of the members to yield, such as `jpg`; empty for all.

    Raises:
        FlatvqError: if the archive is damaged, compressed or truncated.
    """
    names: Counter[str] = Counter()
    with shard.open() as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    if not (member.isreg() or member.issym() or member.islnk()):
                        continue
                    name = member.name.removeprefix("./")
                    names[name] += 1
                    if suffix and _suffix(name) != suffix.lower().removeprefix("."):
                        continue
                    path = f"{shard.name}/{name}" + (f" ({names[name]})" if names[name] > 1 else "")
                    place = Place(0, member.offset_data, member.size)
                    if unusable := _unusable(member):
                        if isinstance(unusable, HiddenError) or claims_an_image(name):
                            yield Item(path, partial(_raise, unusable), claimed=True), place
                        continue
                    stream.seek(member.offset_data)
                    content = stream.read(member.size)
                    if len(content) < member.size:
                        raise _damaged(shard, f"it ends within member '{printable(name)}'")
                    yield Item(path, partial(BytesIO, content), claims_an_image(name)), place
            _require_end(shard, stream, archive.offset)
        except tarfile.TarError as error:
            raise _damaged(shard, reason_of(error)) from None


def _unusable(member: tarfile.TarInfo) -> Rejected | None:
    """Return why the content of a member is not used, whatever it is; None if it is."""
    if any(map(is_hidden, member.name.split("/"))):
        return HiddenError()
    if member.issparse():
        return Rejected("stored as a sparse file", "write the archive without --sparse")
    if not member.isreg():
        return Rejected("a link", "write files in place of links: tar --dereference --hard-dereference")
    return None


def _raise(unusable: Rejected) -> BinaryIO:
    raise unusable


def _require_end(shard: Shard, stream: BinaryIO, end: int) -> None:
    """Check that an archive ends with zeros.

    Raises:
        FlatvqError: if it does not: `tarfile` took a damaged or missing header for the end, or stopped at the
            end of the first one of several archives.
    """
    stream.seek(end)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise _damaged(shard, f"it is damaged or truncated after {end} bytes")
    while chunk := stream.read(_CHUNK):
        if chunk.count(0) < len(chunk):
            raise _damaged(shard, f"it goes on after its end at {end} bytes, as archives that were joined do")


def _suffix(name: str) -> str:
    """Return what follows the first dot of a name, as WebDataset divides names.

    Example:
        >>> _suffix("cats/00.seg.PNG")
        'seg.png'
    """
    return PurePosixPath(name).name.partition(".")[2].lower()


def _damaged(shard: Shard, reason: str) -> FlatvqError:
    what = f"the tar file '{printable(shard.url)}' cannot be read ({reason})"
    return FlatvqError(what, "write it again, uncompressed, or remove it")


def read_members(shard: Shard, places: Sequence[Place]) -> list[bytes]:
    """Read members of a tar shard, those close to each other together.

    Args:
        shard: the shard.
        places: where the members are, in ascending order.

    Returns:
        The content of each.
    """
    contents: list[bytes] = []
    first = 0
    for number, place in enumerate(places):
        stop = place.offset + place.length
        following = places[number + 1] if number + 1 < len(places) else None
        if following is not None and following.offset - stop <= _GAP:
            continue
        start = places[first].offset
        block = memoryview(shard.read(start, stop))
        together = places[first : number + 1]
        contents += [bytes(block[p.offset - start : p.offset - start + p.length]) for p in together]
        first = number + 1
    return contents
