"""Starts or resumes an encoding in a folder, of all shards or of the shards of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from flatvq.codes.manifest import (
    NAME,
    CodeManifest,
    Shard,
    digest_of,
    read_manifest,
    shard_name,
    write_manifest,
)
from flatvq.codes.parts import PARTS, Part, read_parts, write_shard_record
from flatvq.errors import FlatvqError
from flatvq.files import remove_folder, staged, write_text
from flatvq.train.lease import leased

__all__ = ["encode_all", "encode_part"]

_LEASE_SECONDS = 1.0
_ACTIVITY = "encoding"

Encode = Callable[[CodeManifest, Callable[[Shard], None], Sequence[int]], None]
"""Encodes those shards of some numbers that a manifest does not list, and records each."""


def encode_all(folder: Path, started: CodeManifest, encode: Encode) -> CodeManifest:
    """Encode the shards that neither the manifest nor a part has recorded, and list all in the manifest.

    Args:
        folder: the folder of the codes.
        started: what is encoded.
        encode: encodes shards.

    Returns:
        The complete manifest.

    Raises:
        FlatvqError: if the folder holds codes of another encoding.
        BusyError: if another process encodes all shards.
    """
    with leased(folder, _LEASE_SECONDS, _ACTIVITY, remove=True):
        stored = _started(folder, started)
        shards = range(stored.shard_count)
        manifest = _with_shards(stored, _intact(folder, stored, shards))

        def record(shard: Shard) -> None:
            nonlocal manifest
            manifest = _with_shards(manifest, [*manifest.shards, shard])
            write_manifest(folder, manifest)

        try:
            encode(manifest, record, shards)
        except Exception:
            # Without a shard there is nothing to resume, and the cause may be a setting in the manifest.
            if not any(folder.glob("codes-*.parquet")) and not (folder / PARTS).exists():
                (folder / NAME).unlink()
            raise
        if (folder / PARTS).exists():
            write_manifest(folder, manifest)  # the shards of parts are not in it if none was missing
            remove_folder(folder / PARTS)
    return manifest


def encode_part(folder: Path, started: CodeManifest, part: Part, encode: Encode) -> CodeManifest:
    """Encode the shards of a part that neither the manifest nor a part has recorded, and record each.

    Args:
        folder: the folder of the codes.
        started: what is encoded.
        part: the part.
        encode: encodes shards.

    Returns:
        The manifest, with the shards of the part.

    Raises:
        FlatvqError: if the folder holds codes of another encoding.
        BusyError: if another process encodes the same part.
    """
    with (
        _part_folder(folder, part) as (part_folder, remove),
        leased(part_folder, _LEASE_SECONDS, _ACTIVITY, remove=remove) as lease,
        staged(folder, lease.stage),
    ):
        stored = _started(folder, started)
        shards = part.shards(stored.shard_count)
        manifest = _with_shards(stored, _intact(folder, stored, shards))

        def record(shard: Shard) -> None:
            nonlocal manifest
            manifest = _with_shards(manifest, [*manifest.shards, shard])
            write_shard_record(folder, manifest, shard)
            # From this, a cluster knows that a part that was stopped has made progress.
            write_text(part_folder / "progress", str(len(manifest.shards)))

        encode(manifest, record, shards)
    return manifest


@contextmanager
def _part_folder(folder: Path, part: Part) -> Iterator[tuple[Path, bool]]:
    """Make the folder of a part. If all codes were complete before, remove it again, unless it has records.

    Yields:
        The folder, and whether it is to be removed.
    """
    part_folder = folder / part.folder
    complete = (folder / NAME).exists() and read_manifest(folder).complete
    part_folder.mkdir(parents=True, exist_ok=True)
    try:
        yield part_folder, complete
    finally:
        if complete:
            with suppress(OSError):  # they are not empty: a shard was encoded again, or another part runs
                part_folder.rmdir()
                part_folder.parent.rmdir()


def _started(folder: Path, started: CodeManifest) -> CodeManifest:
    """Write the manifest of a new encoding, or return the manifest of an interrupted one."""
    if not (folder / NAME).exists():
        stray = next(folder.glob("codes-*.parquet"), None)
        if stray is None:
            write_manifest(folder, started)
            return started
        if not (folder / NAME).exists():  # another part may have written both in between
            raise FlatvqError(f"'{folder}' holds {stray.name} and no {NAME}", "choose another folder")
    stored = read_manifest(folder)
    if difference := stored.difference(started):
        what = f"'{folder}' holds codes with {difference}"
        raise FlatvqError(what, "encode with what it was started with, or choose another folder")
    return stored


def _intact(folder: Path, manifest: CodeManifest, numbers: Sequence[int]) -> Iterator[Shard]:
    """Yield the shards of some numbers that are complete and intact."""
    names = {shard_name(number, manifest.shard_count) for number in numbers}
    listed = (shard for shard in manifest.shards if shard.name in names)
    intact: set[str] = set()
    for shard in chain(listed, read_parts(folder, manifest, numbers)):
        path = folder / shard.name
        # The size is compared first, so that no more than a shard is read.
        complete = path.is_file() and path.stat().st_size == shard.bytes
        if shard.name not in intact and complete and digest_of(path.read_bytes()) == shard.sha256:
            intact.add(shard.name)
            yield shard


def _with_shards(manifest: CodeManifest, shards: Iterable[Shard]) -> CodeManifest:
    ordered = sorted(shards, key=lambda shard: shard.name)
    return manifest.model_copy(update={"shards": tuple(ordered)})
