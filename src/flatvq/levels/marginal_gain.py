"""Compare the PSNR gain per bit of an upper level with the gain per additional bit on a single level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path

from flatvq.levels.refit import RefittedDecoder
from flatvq.model.capacity import capacity_of
from flatvq.recipe import ModelRecipe
from flatvq.records import load_study
from flatvq.records.study import Level

__all__ = ["MarginalGain", "marginal_gain", "single_level_counterpart"]


@dataclass(frozen=True)
class MarginalGain:
    """The PSNR gain of a refitted decoder from additional bits, over a refitted decoder without them."""

    bits: float
    """Additional nominal bits per image."""
    gain_db: float
    """PSNR with the bits minus PSNR without them, in dB."""

    @property
    def db_per_kilobit(self) -> float:
        """Gain in dB per 1,000 bits."""
        return 1000 * self.gain_db / self.bits


def marginal_gain(
    model: ModelRecipe,
    crop: int,
    refitted: Sequence[RefittedDecoder],
    single: tuple[ModelRecipe, float] | None = None,
) -> tuple[dict[int, MarginalGain], MarginalGain | None]:
    """Compute the marginal gain of each upper level, and of the same bits on a single level.

    Args:
        model: the hierarchy.
        crop: side of the images in pixels.
        refitted: the refitted decoders of the hierarchy.
        single: a single-level model of about the same bits, and the PSNR of its decoder, refitted for the
            same number of steps.

    Returns:
        The marginal gain of each upper level, by level; for a hierarchy of two levels, also the gain of the
        single-level model over the bottom level alone, from its additional bits.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> levels = [LevelRecipe(downsample=factor, codebook_size=256) for factor in (4, 2)]
        >>> both, bottom_only = RefittedDecoder(None, 25.0), RefittedDecoder(1, 24.0)
        >>> gains, _ = marginal_gain(ModelRecipe(levels=tuple(levels)), 64, [both, bottom_only])
        >>> gains[1].bits, gains[1].gain_db, gains[1].db_per_kilobit
        (512.0, 1.0, 1.953125)
    """
    psnr_all = next(decoder.psnr_db for decoder in refitted if decoder.without is None)
    psnr_without = {decoder.without: decoder.psnr_db for decoder in refitted if decoder.without is not None}
    bits = [_bits(model, crop, level) for level in range(len(model.levels))]
    upper = {level: MarginalGain(bits[level], psnr_all - psnr) for level, psnr in psnr_without.items()}
    if single is None or len(bits) != 2:
        return upper, None
    recipe, psnr = single
    return upper, MarginalGain(_bits(recipe, crop, 0) - bits[0], psnr - psnr_without[1])


def _bits(model: ModelRecipe, crop: int, level: int) -> float:
    capacity = capacity_of(model, crop).levels[level]
    return prod(capacity.grid) * log2(capacity.codebook_size)


def _level_bits(level: Level) -> float:
    return prod(level.grid) * level.indices_per_cell * log2(level.codebook_size)


def single_level_counterpart(run: Path) -> Path | None:
    """Find the single-level run that a hierarchy's run is compared with in its study.

    Args:
        run: the folder of a run, in its study as `runs/ARM/seed-SEED-KEY`.

    Returns:
        The folder of a finished single-level run with the same seed. Its arm is one that the study compares
        with the hierarchy's arm, and it has more bits than the bottom of the hierarchy. None if there is no
        such run, or the given run is not a trial of a study.

    Raises:
        FlatvqError: if the record of the study is damaged.
    """
    resolved = run.resolve()
    folder = resolved.parent.parent.parent
    if not (folder / "study.json").is_file():
        return None
    study = load_study(folder)
    own_trial = next((trial for trial in study.trials if trial.folder(folder) == resolved), None)
    if own_trial is None:
        return None
    bottom_bits = _level_bits(study.arm(own_trial.arm).level_table[0])
    single_level_arms = {
        arm.name
        for arm in study.arms
        if len(arm.level_table) == 1 and _level_bits(arm.level_table[0]) > bottom_bits
    }
    pairs = [(pair.a, pair.b) for pair in study.comparisons if pair.question == "hierarchy"]
    compared_arms = [a if b == own_trial.arm else b for a, b in pairs if own_trial.arm in (a, b)]
    finished = (
        trial.folder(folder)
        for arm in compared_arms
        if arm in single_level_arms
        for trial in study.trials
        if trial.done and (trial.arm, trial.seed) == (arm, own_trial.seed)
    )
    return next((path for path in finished if (path / "model").is_dir()), None)
