"""What a bit buys on an upper level, beside what it buys on the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path

from flatvq.levels.refit import Refitted
from flatvq.model.capacity import capacity_of
from flatvq.recipe import ModelRecipe
from flatvq.records import load_study

__all__ = ["MarginalGain", "marginal_gain", "single_level_counterpart"]


@dataclass(frozen=True)
class MarginalGain:
    """What some bits add to a decoder that was trained anew with them, over one without."""

    bits: float
    """Nominal bits an image that were added."""
    gain_db: float
    """PSNR with them, less PSNR without."""

    @property
    def db_per_kilobit(self) -> float:
        """Gain per 1,000 bits."""
        return 1000 * self.gain_db / self.bits


def marginal_gain(
    model: ModelRecipe,
    crop: int,
    refitted: Sequence[Refitted],
    single: tuple[ModelRecipe, float] | None = None,
) -> tuple[dict[int, MarginalGain], MarginalGain | None]:
    """Compare each upper level's bits with the same bits on one level.

    Args:
        model: the hierarchy.
        crop: side of the images in pixels.
        refitted: its decoders, trained anew.
        single: a single-level model of about the same bits, and the PSNR of its decoder trained anew as long.

    Returns:
        Each upper level's worth by number; and, for a hierarchy of two, what the bits beyond the bottom's buy
        on the single level: its PSNR less that of the hierarchy's bottom alone.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> levels = [LevelRecipe(downsample=factor, codebook_size=256) for factor in (4, 2)]
        >>> whole, without = Refitted(None, 25.0), Refitted(1, 24.0)
        >>> found, _ = marginal_gain(ModelRecipe(levels=tuple(levels)), 64, [whole, without])
        >>> found[1].bits, found[1].gain_db, found[1].db_per_kilobit
        (512.0, 1.0, 1.953125)
    """
    whole = next(one.psnr_db for one in refitted if one.without is None)
    without = {one.without: one.psnr_db for one in refitted if one.without is not None}
    bits = [_bits(model, crop, level) for level in range(len(model.levels))]
    upper = {level: MarginalGain(bits[level], whole - psnr) for level, psnr in without.items()}
    if single is None or len(bits) != 2:
        return upper, None
    recipe, psnr = single
    return upper, MarginalGain(_bits(recipe, crop, 0) - bits[0], psnr - without[1])


def _bits(model: ModelRecipe, crop: int, level: int) -> float:
    found = capacity_of(model, crop).levels[level]
    return prod(found.grid) * log2(found.codebook_size)


def single_level_counterpart(run: Path) -> Path | None:
    """Find the single-level run of the same study and seed that a hierarchy's run is compared with.

    Args:
        run: the folder of a run, in its study's `runs/ARM/seed-SEED-KEY`.

    Returns:
        The folder of the other run; None if the run is none of a study's trials, or no arm of the study has
        one level, the same care for its codebook, and a finished trial of this seed.

    Raises:
        FlatvqError: if the study's record is damaged.
    """
    whole = run.resolve()
    folder = whole.parent.parent.parent
    if not (folder / "study.json").is_file():
        return None
    study = load_study(folder)
    own = next((trial for trial in study.trials if trial.folder(folder) == whole), None)
    if own is None:
        return None
    single = {arm.name for arm in study.arms if len(arm.level_table) == 1}
    pairs = [(one.a, one.b) for one in study.comparisons if one.question == "hierarchy"]
    others = [a if b == own.arm else b for a, b in pairs if own.arm in (a, b)]
    finished = (
        trial.folder(folder)
        for other in others
        if other in single
        for trial in study.trials
        if trial.done and (trial.arm, trial.seed) == (other, own.seed)
    )
    return next((found for found in finished if (found / "model").is_dir()), None)
