"""The index of shards: where each image is, its size and its hash.

To make the index, every shard is read once, from start to end. It is kept in the cache of surveys, and shards
are read again only if their size, times, tag or hash has changed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatvq.data.conversion import Conversion
from flatvq.data.manifest import Manifest, joined, manifest_of
from flatvq.data.parquet_shards import parquet_items
from flatvq.data.shard import Place, Shard
from flatvq.data.survey import Survey, Tally, decoding_threads, examine, grouped
from flatvq.data.survey_cache import SurveyCache, settled_before
from flatvq.data.tar_shards import tar_items
from flatvq.data.types import FileStatus

__all__ = ["PLACES", "index_shards"]

PLACES = ("shard", *Place._fields)
"""The columns of the manifest: the number of the shard, and the place of the image in it."""

# Seconds after which an unfinished index is stored, so that little is lost if the process is killed.
_STORE_SECONDS = 300.0


@dataclass(frozen=True)
class _Indexed:
    """The images of one shard, and what is not usable in it."""

    manifest: Manifest
    statuses: Sequence[Sequence[str]] = ()
    """Name, status and reason of each."""
    remedies: dict[str, str] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    """Number of files that are not images, by suffix."""


def index_shards(
    source: str, shards: Sequence[Shard], column: str, suffix: str, conversion: Conversion, split: str
) -> Survey:
    """Index shards that are new or have changed, and read the rest of the index from the cache.

    Args:
        source: the name of the index in the cache, such as the pattern of the shards.
        shards: the shards.
        column: the column of images in parquet files.
        suffix: the suffix of images in tar files; empty for all.
        conversion: the size and white level to convert images to.
        split: the name of the set in file statuses.

    Returns:
        The images, with the columns `PLACES`, and the status of all other files.

    Raises:
        FlatvqError: if a shard is damaged or cannot be read.
    """
    cache = SurveyCache(f"shards {suffix!r} {column!r} {source}", conversion, PLACES)
    last = cache.get()
    indexed = _unchanged(shards, *last) if last else {}
    if last is not None and len(indexed) == len(shards) == len(last[1]):
        manifest = last[0]
    else:
        missing = [number for number in range(len(shards)) if number not in indexed]
        stored = time.monotonic()
        with ThreadPoolExecutor(decoding_threads()) as pool:
            try:
                index = {pool.submit(_index, shards[n], n, column, suffix, conversion): n for n in missing}
                for future in as_completed(index):
                    indexed[index[future]] = future.result()
                    if time.monotonic() - stored > _STORE_SECONDS:
                        _store(cache, shards, indexed)
                        stored = time.monotonic()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                _store(cache, shards, indexed)
                raise
        _store(cache, shards, indexed)
        manifest = _manifest(indexed)
    others: Counter[str] = Counter()
    for result in indexed.values():
        others.update(result.others)
    ordered = [indexed[number] for number in range(len(shards))]
    statuses = [
        FileStatus(name, split, "skipped" if status == "skipped" else "unreadable", reason)
        for result in ordered
        for name, status, reason in result.statuses
    ]
    remedies = {name: remedy for result in ordered for name, remedy in result.remedies.items()}
    return Survey(manifest, (*statuses, *grouped(others, split)), remedies)


def _index(shard: Shard, number: int, column: str, suffix: str, conversion: Conversion) -> _Indexed:
    """Read a shard."""
    tally = Tally("")
    places: list[Place] = []
    items = tar_items(shard, suffix) if shard.is_tar else parquet_items(shard, column)
    for count, (item, place) in enumerate(items):
        places.append(place)
        tally.add(count, item, examine(item, conversion))
    survey = tally.survey()
    table = np.array(places, np.int64).reshape(-1, len(Place._fields))[survey.manifest.places["file"]]
    columns = {name: np.ascontiguousarray(table[:, n]) for n, name in enumerate(Place._fields)}
    manifest = replace(survey.manifest, places={"shard": np.full(len(table), number), **columns})
    statuses = [(file.name, file.status, file.reason) for file in tally.file_statuses]
    return _Indexed(manifest, statuses, tally.remedies, dict(tally.other_files))


def _unchanged(shards: Sequence[Shard], manifest: Manifest, about: Any) -> dict[int, _Indexed]:
    """Return what the last index has of shards that have not changed since."""
    numbers = {(shard.name, shard.url, shard.size, shard.state): n for n, shard in enumerate(shards)}
    indexed: dict[int, _Indexed] = {}
    for old, (identity, statuses, remedies, others) in enumerate(about):
        number = numbers.get(tuple(identity))
        if number is not None:
            start, stop = np.searchsorted(manifest.places["shard"], [old, old + 1])
            rows = manifest.part(int(start), int(stop))
            indexed[number] = _Indexed(_of_shard(rows, number), statuses, remedies, others)
    return indexed


def _store(cache: SurveyCache, shards: Sequence[Shard], indexed: dict[int, _Indexed]) -> None:
    """Store the index of the shards that are indexed by now, without those that may change unnoticed."""
    settled = settled_before(cache.started)
    kept = {
        number: result
        for number, result in sorted(indexed.items())
        if not shards[number].is_local or int(shards[number].state.split()[-1]) < settled
    }
    about = []
    renumbered = {}
    for new, (number, result) in enumerate(kept.items()):
        shard = shards[number]
        about.append(
            (
                (shard.name, shard.url, shard.size, shard.state),
                result.statuses,
                result.remedies,
                result.others,
            )
        )
        renumbered[new] = replace(result, manifest=_of_shard(result.manifest, new))
    cache.put(_manifest(renumbered), about)


def _of_shard(manifest: Manifest, number: int) -> Manifest:
    """Return the manifest of one shard with another number of the shard."""
    return replace(manifest, places={**manifest.places, "shard": np.full(len(manifest), number)})


def _manifest(indexed: dict[int, _Indexed]) -> Manifest:
    """Return the images of all shards, in their order."""
    empty = manifest_of([], [], {name: np.empty(0, np.int64) for name in PLACES})
    return joined([empty, *(indexed[number].manifest for number in sorted(indexed))])
