"""Turn surveys into a `DataSplit`; all sources of files share this code.

survey -> divide -> apply the limit -> decode (if the images fit the cache) -> divide the readable images
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flatvq.data.conversion import Conversion
from flatvq.data.decoding import Decode, decode, decode_for_training
from flatvq.data.holdout import Sides, divide, first_by_hash, without_copies
from flatvq.data.manifest import Entry, Survey
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
    survey: Survey
    """Its content."""

    def unused_images(self, file_statuses: Sequence[FileStatus] = ()) -> list[FileStatus]:
        """Return the statuses of the images that are not used, from the survey and from `file_statuses`."""
        return [
            file
            for file in (*self.survey.file_statuses, *file_statuses)
            if file.status == "unreadable" or file.name in self.survey.remedies
        ]

    def remedy(self, file: FileStatus) -> str:
        """Return what to do about an image that is not used."""
        return self.survey.remedies.get(file.name, "repair or remove such files, or check their permissions")


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

    entries: tuple[Entry, ...]
    """At least one."""
    file_statuses: tuple[FileStatus, ...]
    """The files that turned out damaged while decoding."""


def usable(
    source: Source, images: Mapping[Entry, Decode], decoder: Decoder, max_unreadable: float, split: str
) -> Usable:
    """Decode images if they fit the cache, and drop those that cannot be read.

    Args:
        source: the source of the images.
        images: images of the source, and how to decode each.
        decoder: decodes and caches them.
        max_unreadable: maximum share of unreadable files.
        split: the name of the set in file statuses.

    Returns:
        The readable images.

    Raises:
        FlatvqError: if no image is readable, or too many files are unreadable.
    """
    rejected = decoder.decode_all(images)
    file_statuses = tuple(
        FileStatus(entry.name, split, "unreadable", rejection.reason) for entry, rejection in rejected.items()
    )
    all_statuses = (*source.survey.file_statuses, *file_statuses)
    unreadable = [file for file in all_statuses if file.status == "unreadable"]
    candidates = len(source.survey.entries) + len(unreadable) - len(file_statuses)
    if len(unreadable) > max_unreadable * candidates:
        example = unreadable[0]
        what = f"{len(unreadable)} of {candidates} images in {source.title} cannot be read"
        what += f", such as '{example.name}'"
        remedy = f"{example.reason}; {source.remedy(example)}"
        if split != EVALUATED and len(rejected) < len(images):
            remedy += f", or raise data.max_unreadable to {_least_share(len(unreadable), candidates):g}"
        raise FlatvqError(what, remedy)
    readable = tuple(entry for entry in images if entry not in rejected)
    if readable:
        return Usable(readable, file_statuses)
    if unused := source.unused_images(file_statuses):
        what = f"no image of {source.title} is usable, such as '{unused[0].name}' ({unused[0].reason})"
        raise FlatvqError(what, source.remedy(unused[0]))
    others = ", ".join(file.name for file in source.survey.file_statuses[:3])
    raise FlatvqError(f"{source.title} holds no usable image ({others or 'it is empty'})", "check the path")


def _least_share(part: int, whole: int) -> float:
    """Return the smallest share in thousandths that a part of a whole does not exceed."""
    return next(share for n in range(1001) if part <= (share := n / 1000) * whole)


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
    readable = usable(source, _for_evaluation(source.survey.entries), decoder, max_unreadable, EVALUATED)
    converted = [entry.converted(EVALUATED) for entry in readable.entries if entry.notes]
    return OpenedFolder(
        images=StoredImages(readable.entries, decoder, decode, EVALUATED),
        file_statuses=(*source.survey.file_statuses, *readable.file_statuses, *converted),
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
    entries = source.survey.entries
    sides = (
        divide(entries, recipe.validation_share, source.title)
        if _several_contents(entries)
        else Sides(entries, ())
    )
    training = first_by_hash(sides.training, recipe.limit)
    images = {**_for_training(training), **_for_evaluation(sides.validation)}
    readable = usable(source, images, decoder, recipe.max_unreadable, "")
    # Divide again, because all images of a side may be damaged. The hash keeps all other images on their
    # side. An image that changes sides is decoded again in the way of its new side.
    title = _title_with_unused(source, readable.file_statuses)
    sides = divide(readable.entries, recipe.validation_share, title)
    sentence = (
        f"{len(sides.validation)} of {len(readable.entries)} images of {source.title} are never trained on, "
        f"chosen by a hash of their content (validation_share {recipe.validation_share:g}), which keeps "
        "copies together"
    )
    file_statuses = (
        *source.survey.file_statuses,
        *readable.file_statuses,
        *_over_limit(recipe, entries, (*training, *sides.validation)),
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
    distinct, copies = without_copies(training.survey.entries, validation.survey.entries)
    if copies and not distinct:
        what = f"every image of {training.title} is also in {validation.title}"
        raise FlatvqError(what, "give data.validation_path other images, or leave it empty")
    chosen = first_by_hash(distinct, recipe.limit)
    trained = usable(training, _for_training(chosen), decoder, recipe.max_unreadable, "training")
    validated = _for_evaluation(validation.survey.entries)
    held_out = usable(validation, validated, decoder, recipe.max_unreadable, "validation")
    sentence = f"{len(held_out.entries)} images of {validation.title}, none of them trained on"
    if copies:
        sentence += f"; {len(copies)} exact copies of them were taken out of {training.title}"
    file_statuses = (
        *training.survey.file_statuses,
        *(
            FileStatus(copy.name, "training", "skipped", f"a copy of held-out '{original.name}'")
            for copy, original in copies.items()
        ),
        *trained.file_statuses,
        *_over_limit(recipe, distinct, chosen),
        *validation.survey.file_statuses,
        *held_out.file_statuses,
    )
    return _split(Sides(trained.entries, held_out.entries), decoder, sentence, file_statuses)


def _for_training(entries: Iterable[Entry]) -> dict[Entry, Decode]:
    return dict.fromkeys(entries, decode_for_training)


def _for_evaluation(entries: Iterable[Entry]) -> dict[Entry, Decode]:
    return dict.fromkeys(entries, decode)


def _title_with_unused(source: Source, file_statuses: Sequence[FileStatus]) -> str:
    """Return the title of a source for an error of which its unused images may be the cause."""
    unused = source.unused_images(file_statuses)
    if not unused:
        return source.title
    first = unused[0]
    return f"{source.title}, without {len(unused)} such as '{first.name}' ({first.reason}),"


def _several_contents(entries: Iterable[Entry]) -> bool:
    return len({entry.digest for entry in entries}) > 1


def _over_limit(recipe: DataRecipe, entries: Sequence[Entry], used: Sequence[Entry]) -> list[FileStatus]:
    """Return the status of the images that `data.limit` leaves out, as one group."""
    count = len(entries) - len(used)
    if not count:
        return []
    return [FileStatus(f"others ({count} images)", "training", "skipped", f"data.limit is {recipe.limit}")]


def _split(sides: Sides, decoder: Decoder, held_out: str, file_statuses: Iterable[FileStatus]) -> DataSplit:
    """Create both sets, and add the statuses of converted images."""
    splits = {"training": sides.training, "validation": sides.validation}
    converted = [
        entry.converted(split) for split, entries in splits.items() for entry in entries if entry.notes
    ]
    return DataSplit(
        training=StoredImages(sides.training, decoder, decode_for_training, "training"),
        validation=StoredImages(sides.validation, decoder, decode, "validation"),
        held_out=held_out,
        file_statuses=(*file_statuses, *converted),
    )
