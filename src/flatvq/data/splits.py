"""From surveys to a split: what every source of files has in common.

survey -> sides -> limit -> decode (if it fits) -> sides of what is readable -> DataSplit
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flatvq.data.conversion import Conversion
from flatvq.data.decoding import Decode, decode, decode_for_training
from flatvq.data.holdout import Sides, divide, first_by_hash, without_copies
from flatvq.data.manifest import Entry, Survey
from flatvq.data.store import Decoder, StoredImages
from flatvq.data.types import DataSplit, FileStatus
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

__all__ = ["EVALUATED", "Source", "hold_out", "keep_apart", "usable"]

EVALUATED = "evaluation"
"""What file_statuses call a set that is only evaluated, without a recipe."""


@dataclass(frozen=True)
class Source:
    """A surveyed source and what to call it in a sentence."""

    title: str
    """Such as `folder 'photos'`."""
    survey: Survey
    """What it holds."""

    def left_out(self, file_statuses: Sequence[FileStatus] = ()) -> list[FileStatus]:
        """Return what became of images that are not used, by the survey or since, without other files."""
        return [
            file
            for file in (*self.survey.file_statuses, *file_statuses)
            if file.status == "unreadable" or file.name in self.survey.remedies
        ]

    def remedy(self, file: FileStatus) -> str:
        """Say what to do about an image that is not used."""
        return self.survey.remedies.get(file.name, "mend or remove such files, or check their permissions")


@dataclass(frozen=True)
class Usable:
    """Images that can be read, as far as that is known before the training."""

    entries: tuple[Entry, ...]
    """At least one."""
    file_statuses: tuple[FileStatus, ...]
    """Those found damaged while decoding."""


def usable(
    source: Source, wanted: Mapping[Entry, Decode], decoder: Decoder, max_unreadable: float, split: str
) -> Usable:
    """Decode what fits the cache, drop what cannot be read, and stop if that is too much.

    Args:
        source: where the entries come from.
        wanted: the images that are wanted of it, and how each is to be decoded.
        decoder: decodes and keeps them.
        max_unreadable: largest share of unreadable files that is borne.
        split: what to call the set in file_statuses.

    Returns:
        The images that are left.

    Raises:
        FlatvqError: if nothing is left, or too many files are unreadable.
    """
    rejected = decoder.decode_all(wanted)
    file_statuses = tuple(
        FileStatus(entry.name, split, "unreadable", why.reason) for entry, why in rejected.items()
    )
    bad = [file for file in (*source.survey.file_statuses, *file_statuses) if file.status == "unreadable"]
    candidates = len(source.survey.entries) + len(bad) - len(file_statuses)
    if len(bad) > max_unreadable * candidates:
        what = f"{len(bad)} of {candidates} images in {source.title} cannot be read, such as '{bad[0].name}'"
        remedy = f"{bad[0].reason}; {source.remedy(bad[0])}"
        if split != EVALUATED:
            remedy += f", or raise data.max_unreadable above {max_unreadable:g}"
        raise FlatvqError(what, remedy)
    kept = tuple(entry for entry in wanted if entry not in rejected)
    if kept:
        return Usable(kept, file_statuses)
    if left_out := source.left_out(file_statuses):
        what = f"no image of {source.title} is usable, such as '{left_out[0].name}' ({left_out[0].reason})"
        raise FlatvqError(what, source.remedy(left_out[0]))
    others = ", ".join(file.name for file in source.survey.file_statuses[:3])
    raise FlatvqError(f"{source.title} holds no usable image ({others or 'it is empty'})", "check the path")


def hold_out(source: Source, recipe: DataRecipe) -> DataSplit:
    """Divide one source by the content of its images.

    Args:
        source: the surveyed source.
        recipe: the data section of the recipe.

    Returns:
        Both sides, which share no content.

    Raises:
        FlatvqError: if there are not two different images, or too many files are unreadable.
    """
    decoder = Decoder(Conversion.of(recipe), recipe.cache_mib)
    everything = source.survey.entries
    sides = (
        divide(everything, recipe.validation_share, source.title)
        if _several(everything)
        else Sides(everything, ())
    )
    training = first_by_hash(sides.training, recipe.limit)
    wanted = {**_to_train_on(training), **_to_evaluate(sides.validation)}
    left = usable(source, wanted, decoder, recipe.max_unreadable, "")
    # Again, because a side may have lost all its images to damage; the hash keeps all others where they were.
    # What changes over is then decoded once more, in the way of its new side.
    sides = divide(left.entries, recipe.validation_share, _with_what_is_missing(source, left.file_statuses))
    sentence = (
        f"{len(sides.validation)} of {len(left.entries)} images of {source.title} are never trained on, "
        f"chosen by a hash of their content (validation_share {recipe.validation_share:g}), which keeps "
        "copies together"
    )
    file_statuses = (
        *source.survey.file_statuses,
        *left.file_statuses,
        *_beyond(recipe, everything, (*training, *sides.validation)),
    )
    return _split(sides, decoder, sentence, file_statuses)


def keep_apart(training: Source, validation: Source, recipe: DataRecipe) -> DataSplit:
    """Take the two sides from two sources; what both hold is not trained on.

    Args:
        training: the surveyed source to train on.
        validation: the surveyed source that is held out.
        recipe: the data section of the recipe.

    Returns:
        Both sides, which share no file.

    Raises:
        FlatvqError: if a side is empty, or too many of its files are unreadable.
    """
    decoder = Decoder(Conversion.of(recipe), recipe.cache_mib)
    own, copies = without_copies(training.survey.entries, validation.survey.entries)
    if copies and not own:
        what = f"every image of {training.title} is also in {validation.title}"
        raise FlatvqError(what, "give data.validation_path other images, or leave it empty")
    wanted = first_by_hash(own, recipe.limit)
    trained = usable(training, _to_train_on(wanted), decoder, recipe.max_unreadable, "training")
    others = _to_evaluate(validation.survey.entries)
    held = usable(validation, others, decoder, recipe.max_unreadable, "validation")
    sentence = f"{len(held.entries)} images of {validation.title}, none of them trained on"
    if copies:
        sentence += f"; {len(copies)} exact copies of them were taken out of {training.title}"
    file_statuses = (
        *training.survey.file_statuses,
        *(
            FileStatus(copy.name, "training", "skipped", f"a copy of held-out '{of.name}'")
            for copy, of in copies.items()
        ),
        *trained.file_statuses,
        *_beyond(recipe, own, wanted),
        *validation.survey.file_statuses,
        *held.file_statuses,
    )
    return _split(Sides(trained.entries, held.entries), decoder, sentence, file_statuses)


def _to_train_on(entries: Iterable[Entry]) -> dict[Entry, Decode]:
    return dict.fromkeys(entries, decode_for_training)


def _to_evaluate(entries: Iterable[Entry]) -> dict[Entry, Decode]:
    return dict.fromkeys(entries, decode)


def _with_what_is_missing(source: Source, file_statuses: Sequence[FileStatus]) -> str:
    """Name a source in an error that others of its images, had they been usable, would have averted."""
    left_out = source.left_out(file_statuses)
    if not left_out:
        return source.title
    first = left_out[0]
    return f"{source.title}, without {len(left_out)} such as '{first.name}' ({first.reason}),"


def _several(entries: Iterable[Entry]) -> bool:
    return len({entry.digest for entry in entries}) > 1


def _beyond(recipe: DataRecipe, entries: Sequence[Entry], taken: Sequence[Entry]) -> list[FileStatus]:
    left = len(entries) - len(taken)
    return (
        [FileStatus(f"others ({left} images)", "training", "skipped", f"data.limit is {recipe.limit}")]
        if left
        else []
    )


def _split(sides: Sides, decoder: Decoder, held_out: str, file_statuses: Iterable[FileStatus]) -> DataSplit:
    """Put the sets together; name what was converted on either side."""
    named = {"training": sides.training, "validation": sides.validation}
    converted = [entry.converted(split) for split, side in named.items() for entry in side if entry.notes]
    return DataSplit(
        training=StoredImages(sides.training, decoder, decode_for_training, "training"),
        validation=StoredImages(sides.validation, decoder, decode, "validation"),
        held_out=held_out,
        file_statuses=(*file_statuses, *converted),
    )
