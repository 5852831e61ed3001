"""The sample pictures of one seed: originals, reconstructions of every arm, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatvq.report.pictures import (
    Pixels,
    amplification,
    differences,
    embed,
    error_picture,
    psnr_db,
    read_picture,
)
from flatvq.report.runs import Run

__all__ = ["Cell", "Gallery", "GalleryRow", "gallery"]

MAX_CROPS = 6


@dataclass(frozen=True)
class Cell:
    """A reconstruction and its error image as data URIs. `psnr_db` is None if it equals the original."""

    reconstruction: str
    error: str
    psnr_db: float | None


@dataclass(frozen=True)
class GalleryRow:
    """The cells of one arm, by crop; None if a picture is missing."""

    arm: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class Gallery:
    """The pictures of one seed.

    Attributes:
        seed: the seed.
        originals: data URIs of the originals, by crop.
        rows: a row per arm.
        factor: amplification of the errors.
        encoding: description of the encoding of the pictures.
        missing: arms without pictures of this seed.
    """

    seed: int
    originals: list[str]
    rows: list[GalleryRow]
    factor: int
    encoding: str
    missing: list[str]


Pair = tuple[Pixels, Pixels]


def gallery(arms: Sequence[str], runs: Sequence[Run]) -> Gallery | None:
    """Collect the sample pictures of the seed for which most arms have pictures.

    Args:
        arms: names of the arms, in the order of the rows.
        runs: the records of all trials.

    Returns:
        The gallery; None if no trial has pictures.
    """
    pairs = {(run.trial.arm, run.trial.seed): _pairs(run) for run in runs if run.trial.done}
    pairs = {key: by_crop for key, by_crop in pairs.items() if by_crop}
    if not pairs:
        return None
    seeds = [seed for _, seed in pairs]
    seed = min(seeds, key=lambda s: (-seeds.count(s), s))
    pairs_by_arm = {arm: pairs[arm, seed] for arm in arms if (arm, seed) in pairs}
    return (
        _embedded(seed, pairs_by_arm, [arm for arm in arms if arm not in pairs_by_arm])
        if pairs_by_arm
        else None
    )


def _pairs(run: Run) -> dict[int, Pair]:
    """Read original and reconstruction by crop. Incomplete pairs are left out."""
    pairs = {}
    for crop in range(MAX_CROPS if run.samples else 0):
        original = read_picture(run.samples / f"{crop}-original.png") if run.samples else None
        reconstruction = read_picture(run.samples / f"{crop}-reconstruction.png") if run.samples else None
        if original is not None and reconstruction is not None and original.shape == reconstruction.shape:
            pairs[crop] = (original, reconstruction)
    return pairs


def _embedded(seed: int, pairs_by_arm: dict[str, dict[int, Pair]], missing: list[str]) -> Gallery:
    originals = {crop: pair[0] for pairs in reversed(pairs_by_arm.values()) for crop, pair in pairs.items()}
    crops = sorted(originals)
    errors = {
        (arm, crop): differences(*pair) for arm, pairs in pairs_by_arm.items() for crop, pair in pairs.items()
    }
    factor = amplification(list(errors.values()))
    reconstructions = [pair[1] for pairs in pairs_by_arm.values() for pair in pairs.values()]
    pictures = [originals[crop] for crop in crops] + reconstructions
    embedded = embed([*pictures, *(error_picture(error, factor) for error in errors.values())])
    uris = embedded.uris[len(crops) :]
    cells = {
        (arm, crop): Cell(reconstruction, error, psnr_db(*pairs_by_arm[arm][crop]))
        for (arm, crop), reconstruction, error in zip(errors, uris, uris[len(errors) :], strict=False)
    }
    rows = [GalleryRow(arm, [cells.get((arm, crop)) for crop in crops]) for arm in pairs_by_arm]
    return Gallery(seed, embedded.uris[: len(crops)], rows, factor, embedded.encoding, missing)
