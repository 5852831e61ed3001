"""The manifest of a folder of codes: what made them, and the shards that are complete."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flatvq.errors import FlatvqError
from flatvq.files import write_text
from flatvq.records.reading import Count, Format1, Positive, Record, Several, read_record
from flatvq.records.run import FileRecord
from flatvq.tokenizers import TokenizerLevel

__all__ = [
    "NAME",
    "CodeManifest",
    "Level",
    "Shard",
    "digest_of",
    "read_manifest",
    "shard_name",
    "write_manifest",
]

NAME = "manifest.json"
_REMEDY = "encode the images again, into another folder"

_Side = Annotated[int, Field(ge=1, le=2**16)]


class Level(Record):
    """One level of the tokenizer."""

    codebook_size: Annotated[int, Field(ge=1, le=2**32)]
    factor: _Side
    index_shape: Several[_Side] = ()

    def to_tokenizer_level(self) -> TokenizerLevel:
        """Convert to the level of a tokenizer."""
        return TokenizerLevel(self.codebook_size, self.factor, self.index_shape)


class TokenizerRecord(Record):
    """The tokenizer."""

    id: str
    """`flatvq.Tokenizer.id`."""
    factor: _Side
    channels: Positive
    levels: Several[Level] = Field(min_length=1, max_length=64)


class ImagesRecord(Record):
    """The images that are encoded."""

    count: Positive
    """The number of images, with those that turned out unreadable."""
    fingerprint: str
    """Hash of their content (`flatvq.data.ImageSet`)."""
    names: str
    """Hash of their names, in order."""


class Settings(Record):
    """What decides the content of the shards besides tokenizer and images."""

    shard_size: Positive
    """Images of each shard but the last."""
    row_group_size: Positive
    """Images of each row group but the last of a shard."""
    batch_size: Positive
    device: str
    """`cpu`, `cuda` or `mps`."""
    white_level: Count


class Unreadable(Record):
    """An image without codes."""

    name: str
    reason: str


class Shard(Record):
    """A complete shard."""

    name: str
    rows: Count
    bytes: Count
    sha256: str
    unreadable: Several[Unreadable] = ()


class CodeManifest(Record):
    """`manifest.json`."""

    format: Format1
    tokenizer: TokenizerRecord
    preprocess: dict[str, Any]
    """`flatvq.Preprocess.to_dict()`."""
    arithmetic: str
    """The number format of computations."""
    images: ImagesRecord
    settings: Settings
    versions: dict[str, str]
    """Versions of the packages that decide the bytes of shards."""
    files: Several[FileRecord] = ()
    """Files without codes, known before encoding: unreadable, or not images."""
    shards: Several[Shard] = ()
    """In order; some are missing until all images are encoded."""

    @property
    def shard_count(self) -> int:
        """The number of shards once all images are encoded."""
        return -(-self.images.count // self.settings.shard_size)

    @property
    def complete(self) -> bool:
        """Whether all images are encoded."""
        return len(self.shards) == self.shard_count

    @property
    def tokenizer_levels(self) -> tuple[TokenizerLevel, ...]:
        """The levels of the tokenizer, bottom first."""
        return tuple(level.to_tokenizer_level() for level in self.tokenizer.levels)

    @property
    def rows(self) -> int:
        """The number of images with codes."""
        return sum(shard.rows for shard in self.shards)

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """The name of each image that cannot be read, and the reason."""
        early = [(file.name, file.reason) for file in self.files if file.status == "unreadable"]
        late = [(image.name, image.reason) for shard in self.shards for image in shard.unreadable]
        return early + late

    @property
    def decisive(self) -> CodeManifest:
        """This manifest without its shards and skipped files: everything that decides the shards."""
        return self.model_copy(update={"files": (), "shards": ()})

    def indices_of(self, shard: int) -> range:
        """Return the indices of the images of a shard.

        Args:
            shard: the number of the shard, from 0.
        """
        size = self.settings.shard_size
        return range(shard * size, min((shard + 1) * size, self.images.count))

    def difference(self, other: CodeManifest) -> str | None:
        """Describe the first difference in what decides the shards: tokenizer, images, settings or versions.

        Args:
            other: the manifest to compare with.

        Returns:
            The key and both values in one clause; None if the manifests agree.
        """
        ours, theirs = (each.decisive.model_dump(mode="json") for each in (self, other))
        for section, values in ours.items():
            if values != theirs[section]:
                return _difference(section, values, theirs[section])
        return None


def shard_name(number: int, count: int) -> str:
    """Return the file name of a shard. Names sort like numbers.

    Example:
        >>> shard_name(17, 1024), shard_name(17, 123_456)
        ('codes-00017-of-01024.parquet', 'codes-000017-of-123456.parquet')
    """
    digits = max(5, len(str(count)))
    return f"codes-{number:0{digits}d}-of-{count:0{digits}d}.parquet"


def digest_of(content: bytes | memoryview) -> str:
    """Return the SHA-256 of the content of a file."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> CodeManifest:
    """Read the manifest of a folder of codes.

    Raises:
        FlatvqError: if it is missing or damaged.
    """
    if not (folder / NAME).is_file():
        raise FlatvqError(f"no {NAME} in '{folder}'", "give a folder that `flatvq encode` wrote")
    manifest = read_record(CodeManifest, folder / NAME, _REMEDY)
    numbers = [_number_of(shard.name, manifest.shard_count) for shard in manifest.shards]
    if None in numbers or numbers != sorted({number for number in numbers if number is not None}):
        first = shard_name(0, manifest.shard_count)
        raise FlatvqError(f"'{folder / NAME}' lists other shards than {first} and so on", _REMEDY)
    return manifest


def _number_of(name: str, count: int) -> int | None:
    """Return the number of a shard; None if this is not the name of one of `count` shards."""
    match = re.fullmatch(r"codes-(\d{5,19})-of-\d{5,19}\.parquet", name)
    number = int(match[1]) if match else count
    return number if number < count and name == shard_name(number, count) else None


def write_manifest(folder: Path, manifest: CodeManifest) -> None:
    """Write the manifest atomically."""
    write_text(folder / NAME, manifest.model_dump_json(indent=1))


def _difference(section: str, before: Any, now: Any) -> str:
    """Name the first key of a section that differs, with both values."""
    if not isinstance(before, dict):
        return f"{section} {before}, now {now}"
    for key, value in before.items():
        if value != now.get(key):
            return f"{section} {key} {_short(value)}, now {_short(now.get(key))}"
    return f"{section} {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text
