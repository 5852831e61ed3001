"""Turn surveys into a `DataSplit`; all sources of files share this code.

survey -> divide -> apply the limit -> decode (if the images fit the cache) -> divide the readable images
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flatvq.data.conversion import Conversion
from flatvq.data.decoding import Decode, decode, decode_for_training
from flatvq.data.holdout import Sides, divide, first_by_hash, has_several_contents, without_copies
from flatvq.data.selection import Selection
from flatvq.data.store import Decoder, StoredImages
from flatvq.data.types import DataSplit, FileStatus, ImageSet
from flatvq.deprecation import renamed_attribute
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

__all__ = ["EVALUATED", "OpenedFolder", "Source", "hold_out", "keep_apart", "open_all", "usable"]

EVALUATED = "evaluation"
"""The name, in file statuses, of a set that is evaluated without a recipe."""


@dataclass(frozen=True)
class Source:
    """A surveyed source and its name in messages."""

    title: str
    """Such as `folder 'photos'`."""
    images: Selection
    """All its images, in the source's order."""
    file_statuses: tuple[FileStatus, ...]
    """The files that are not usable; files that are not images are grouped by suffix."""
    remedies: Mapping[str, str]
    """What to do about unusable images, by name, if the remedy is not to repair the file."""

    def unused_images(self, file_statuses: Sequence[FileStatus] = ()) -> list[FileStatus]:
        """Return the statuses of the images that are not used, from the survey and from `file_statuses`."""
        return [
            file
            for file in (*self.file_statuses, *file_statuses)
            if file.status == "unreadable" or file.name in self.remedies
        ]

    def remedy(self, file: FileStatus) -> str:
        """Return what to do about an image that is not used."""
        return self.remedies.get(file.name, "repair or remove such files, or check their permissions")


@dataclass(frozen=True)
class OpenedFolder:
    """All images of a folder, or of a split of a dataset."""

    images: ImageSet
    """The images, in the order of their paths or rows."""
    file_statuses: tuple[FileStatus, ...]
    """The files that were not used, or used with changes."""

    fates = renamed_attribute("fates", "file_statuses")


@dataclass(frozen=True)
class Usable:
    """The images that can be read, as far as known before training."""

    selections: tuple[Selection, ...]
    """At least one image in all."""
    file_statuses: tuple[FileStatus, ...]
    """The files that turned out damaged while decoding."""


def usable(
    source: Source,
    selections: Sequence[tuple[Selection, Decode]],
    decoder: Decoder,
    max_unreadable: float,
    split: str,
) -> Usable:
    """Decode images if they fit the cache, and drop those that cannot be read.

    Args:
        source: the source of the images.
        selections: images of the source, and how to decode them.
        decoder: decodes and caches them.
        max_unreadable: maximum share of unreadable files.
        split: the name of the set in file statuses.

    Returns:
        The readable images of each selection.

    Raises:
        FlatvqError: if no image is readable, or too many files are unreadable.
    """
    rejected = decoder.decode_all(selections)
    file_statuses = tuple(
        FileStatus(images.name(position), split, "unreadable", rejection.reason)
        for (images, _), damaged in zip(selections, rejected, strict=True)
        for position, rejection in damaged.items()
    )
    readable = tuple(
        images.where(np.isin(np.arange(len(images)), list(damaged), invert=True)) if damaged else images
        for (images, _), damaged in zip(selections, rejected, strict=True)
    )
    all_statuses = (*source.file_statuses, *file_statuses)
    unreadable = [file for file in all_statuses if file.status == "unreadable"]
    candidates = len(source.images) + len(unreadable) - len(file_statuses)
    if len(unreadable) > max_unreadable * candidates:
        example = unreadable[0]
        what = f"{len(unreadable)} of {candidates} images in {source.title} cannot be read"
        what += f", such as '{example.name}'"
        remedy = f"{example.reason}; {source.remedy(example)}"
        if split != EVALUATED and any(map(len, readable)):
            remedy += f", or raise data.max_unreadable to {_least_share(len(unreadable), candidates):g}"
        raise FlatvqError(what, remedy)
    if any(map(len, readable)):
        return Usable(readable, file_statuses)
    if unused := source.unused_images(file_statuses):
        what = f"no image of {source.title} is usable, such as '{unused[0].name}' ({unused[0].reason})"
        raise FlatvqError(what, source.remedy(unused[0]))
    others = ", ".join(file.name for file in source.file_statuses[:3])
    raise FlatvqError(f"{source.title} holds no usable image ({others or 'it is empty'})", "check the path")


def _least_share(count: int, total: int) -> float:
    """Return the smallest share in thousandths that a count out of a total does not exceed."""
    return next(share for n in range(1001) if count <= (share := n / 1000) * total)


def open_all(source: Source, conversion: Conversion, cache_mib: int, max_unreadable: float) -> OpenedFolder:
    """Open all images of a source, for evaluation.

    Args:
        source: the surveyed source.
        conversion: the size and white level that it was surveyed with.
        cache_mib: memory in MiB for decoded images. If all images fit, they are decoded now.
        max_unreadable: maximum share of unreadable files.

    Raises:
        FlatvqError: if no image is readable, or too many files are unreadable.
    """
    decoder = Decoder(conversion, cache_mib)
    readable = usable(source, [(source.images, decode)], decoder, max_unreadable, EVALUATED)
    (images,) = readable.selections
    return OpenedFolder(
        images=StoredImages(images, decoder, decode, EVALUATED),
        file_statuses=(*source.file_statuses, *readable.file_statuses, *images.converted(EVALUATED)),
    )


def hold_out(source: Source, recipe: DataRecipe) -> DataSplit:
    """Hold out images of a source, chosen by a hash of their content.

    Args:
        source: the surveyed source.
        recipe: the data section of the recipe.

    Returns:
        Both splits, which have no content in common.

    Raises:
        FlatvqError: if there are fewer than two different images, or too many files are unreadable.
    """
    decoder = Decoder(Conversion.of(recipe), recipe.cache_mib)
    images = source.images
    sides = (
        divide(images, recipe.validation_share, source.title)
        if has_several_contents(images)
        else Sides(images, images.where(np.arange(0)))
    )
    training = first_by_hash(sides.training, recipe.limit)
    selections = [(training, decode_for_training), (sides.validation, decode)]
    readable = usable(source, selections, decoder, recipe.max_unreadable, "")
    # Divide again, because all images of a side may be damaged. The hash keeps all other images on their
    # side. An image that changes sides is decoded again, as its new side requires.
    title = _title_with_unused(source, readable.file_statuses)
    rows = np.concatenate([selection.rows for selection in readable.selections])
    unused = len(sides.training) - len(training)
    sides = divide(replace(images, rows=rows), recipe.validation_share, title)
    sentence = (
        f"{len(sides.validation)} of {len(rows)} images of {source.title} are never trained on, "
        f"chosen by a hash of their content (validation_share {recipe.validation_share:g}), which keeps "
        "copies together"
    )
    file_statuses = (
        *source.file_statuses,
        *readable.file_statuses,
        *_over_limit(recipe, unused),
    )
    return _split(sides, decoder, sentence, file_statuses)


def keep_apart(training: Source, validation: Source, recipe: DataRecipe) -> DataSplit:
    """Train on one source and hold out another. Images that both contain are not trained on.

    Args:
        training: the surveyed source to train on.
        validation: the surveyed source to hold out.
        recipe: the data section of the recipe.

    Returns:
        Both splits, which have no file in common.

    Raises:
        FlatvqError: if a split is empty, or too many of its files are unreadable.
    """
    decoder = Decoder(Conversion.of(recipe), recipe.cache_mib)
    distinct, copies = without_copies(training.images, validation.images)
    if copies and not len(distinct):
        what = f"every image of {training.title} is also in {validation.title}"
        raise FlatvqError(what, "give data.validation_path other images, or leave it empty")
    chosen = first_by_hash(distinct, recipe.limit)
    selections = [(chosen, decode_for_training)]
    trained = usable(training, selections, decoder, recipe.max_unreadable, "training")
    selections = [(validation.images, decode)]
    held_out = usable(validation, selections, decoder, recipe.max_unreadable, "validation")
    sides = Sides(*trained.selections, *held_out.selections)
    sentence = f"{len(sides.validation)} images of {validation.title}, none of them trained on"
    if copies:
        sentence += f"; {len(copies)} exact copies of them were taken out of {training.title}"
    file_statuses = (
        *training.file_statuses,
        *(
            FileStatus(copy, "training", "skipped", f"a copy of held-out '{original}'")
            for copy, original in copies.items()
        ),
        *trained.file_statuses,
        *_over_limit(recipe, len(distinct) - len(chosen)),
        *validation.file_statuses,
        *held_out.file_statuses,
    )
    return _split(sides, decoder, sentence, file_statuses)


def _title_with_unused(source: Source, file_statuses: Sequence[FileStatus]) -> str:
    """Return the title of a source for an error of which its unused images may be the cause."""
    unused = source.unused_images(file_statuses)
    if not unused:
        return source.title
    first = unused[0]
    return f"{source.title}, without {len(unused)} such as '{first.name}' ({first.reason}),"


def _over_limit(recipe: DataRecipe, count: int) -> list[FileStatus]:
    """Return the status of the images that `data.limit` leaves out, as one group."""
    if not count:
        return []
    return [FileStatus(f"others ({count} images)", "training", "skipped", f"data.limit is {recipe.limit}")]


def _split(sides: Sides, decoder: Decoder, held_out: str, file_statuses: Iterable[FileStatus]) -> DataSplit:
    """Create both sets, and add the statuses of converted images."""
    converted = (*sides.training.converted("training"), *sides.validation.converted("validation"))
    return DataSplit(
        training=StoredImages(sides.training, decoder, decode_for_training, "training"),
        validation=StoredImages(sides.validation, decoder, decode, "validation"),
        held_out=held_out,
        file_statuses=(*file_statuses, *converted),
    )
