"""Parts of an encoding, which processes on several hosts encode at the same time.

    OUT/manifest.json                          what is encoded; each part writes the same one if it is missing
    OUT/parts/codes-00017-of-01024.json        the record of a shard that a part has written
    OUT/parts/part-00003-of-00016/             the lease of part 3 of 16, and its `progress`

`flatvq encode` without `--part` then verifies these shards, encodes those that are missing, lists all in
manifest.json and removes OUT/parts. How images are divided into shards does not depend on the number of
parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatvq.codes.manifest import CodeManifest, Shard, digest_of, shard_name
from flatvq.errors import FlatvqError
from flatvq.files import write_text
from flatvq.records import Record, read_record
from flatvq.records.reading import Format1

__all__ = ["PARTS", "Part", "read_parts", "write_shard_record"]

PARTS = "parts"
_MOST = 1_000_000


@dataclass(frozen=True)
class Part:
    """One of several parts of an encoding: shards `number`, `number + count`, `number + 2 * count` and so on.

    Args:
        number: the number of the part, from 0.
        count: the number of parts.

    Raises:
        FlatvqError: if there is no such part.

    Example:
        >>> list(Part(1, 3).shards(8))
        [1, 4, 7]
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count <= _MOST:
            what = f"there is no part {self.number} of {self.count}"
            raise FlatvqError(what, "number the parts from 0, and give at most a million")

    @staticmethod
    def parse(text: str) -> Part:
        """Read a part as the command line gives it.

        Args:
            text: number and count, such as `3/16`.

        Raises:
            FlatvqError: if the text is not two whole numbers, or there is no such part.

        Example:
            >>> Part.parse("3/16")
            Part(number=3, count=16)
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise FlatvqError(f"part {text!r} is not NUMBER/COUNT", "write it like 0/16")
        return Part(int(match[1]), int(match[2]))

    def shards(self, count: int) -> range:
        """Return the numbers of its shards.

        Args:
            count: the number of all shards.
        """
        return range(self.number, count, self.count)

    @property
    def folder(self) -> Path:
        """The folder of the part, relative to the folder of the codes."""
        return Path(PARTS) / f"part-{self.number:05d}-of-{self.count:05d}"


class _ShardRecord(Record):
    """The content of a record."""

    format: Format1 = 1
    encoding: str
    """Hash of what decides the shards (`CodeManifest.decisive`)."""
    shard: Shard


def write_shard_record(folder: Path, manifest: CodeManifest, shard: Shard) -> None:
    """Record that a part has written a shard.

    Args:
        folder: the folder of the codes.
        manifest: what is encoded.
        shard: the shard. Its file exists.
    """
    record = _ShardRecord(encoding=_encoding_of(manifest), shard=shard)
    write_text(folder / PARTS / f"{Path(shard.name).stem}.json", record.model_dump_json())


def read_parts(folder: Path, manifest: CodeManifest, numbers: Sequence[int]) -> Iterator[Shard]:
    """Yield those shards of some numbers that parts have recorded.

    Args:
        folder: the folder of the codes.
        manifest: what is encoded. Shards of another encoding are left out.
        numbers: the numbers of the shards.

    Raises:
        FlatvqError: if a record is damaged.
    """
    encoding = _encoding_of(manifest)
    for number in numbers:
        name = shard_name(number, manifest.shard_count)
        path = folder / PARTS / f"{Path(name).stem}.json"
        if path.is_file():
            record = read_record(_ShardRecord, path, "remove it, and encode again")
            if record.encoding == encoding and record.shard.name == name:
                yield record.shard


def _encoding_of(manifest: CodeManifest) -> str:
    return digest_of(manifest.decisive.model_dump_json().encode())
