"""Whether a trained level has a collapsed codebook, and the kind of collapse."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod
from typing import Literal

from flatvq.records import Trial
from flatvq.records.run import LevelMetrics

__all__ = ["Collapse", "collapse_of", "count_relapses", "has_collapsed"]

Collapse = Literal["codes", "latents"]

# A level has collapsed if its perplexity is below this share of its maximum, or the logarithm of its
# perplexity below this share of the largest logarithm. With fewer than 11 codes, the first never happens.
_PERPLEXITY_SHARE = 0.1
_BITS_SHARE = 0.3
# Relative quantization error below which the few codes in use cover nearly all of the latents' variance.
_NEGLIGIBLE_ERROR = 0.01


def has_collapsed(
    perplexity: float, codebook_size: int, grid: Sequence[int], images: int, *, leniency: float = 1.0
) -> bool:
    """Return whether a level has collapsed, which means that it uses few of its codes.

    The perplexity is at most K, or the number of cells of the split if that is smaller. A level has collapsed
    if its perplexity is below a tenth of this maximum, or its effective bits, log2 of the perplexity, are
    below 30 % of log2 of this maximum. A level with one code has no bits, and cannot collapse.

    Args:
        perplexity: the perplexity over the split.
        codebook_size: K.
        grid: rows and columns of the level.
        images: the number of images of the split.
        leniency: a number by which both thresholds are divided.

    Example:
        >>> has_collapsed(51.0, 512, (8, 8), images=100), has_collapsed(52.0, 512, (8, 8), images=100)
        (True, False)
        >>> has_collapsed(1.5, 4, (8, 8), images=100), has_collapsed(1.6, 4, (8, 8), images=100)
        (True, False)
    """
    largest = min(codebook_size, images * prod(grid))
    if largest == 1:
        return False
    bits_share = log2(max(perplexity, 1.0)) / log2(largest)
    return perplexity / largest < _PERPLEXITY_SHARE / leniency or bits_share < _BITS_SHARE / leniency


def collapse_of(level: LevelMetrics, images: int) -> Collapse | None:
    """Return the kind of collapse of a level's codebook.

    Args:
        level: the metrics over the whole held-out split.
        images: the number of images of the split.

    Returns:
        None if the level has not collapsed by the rule of `has_collapsed`. `codes` if the latents differ but
        share few codes; dead-code replacement prevents this. `latents` if the encoder gives few different
        latents, so that replacement has no new vectors to draw; a smaller commitment weight, a longer warm-up
        or a later start of the level may help.

    Example:
        >>> level = LevelMetrics(
        ...     grid=(8, 8), codebook_size=512, code_dim=64, usage=0.05, perplexity=9.6, used_codes=26,
        ...     codes_for_99=20, quantization_error=0.001)
        >>> collapse_of(level, images=100)
        'latents'
        >>> collapse_of(level.model_copy(update={"quantization_error": 0.3}), images=100)
        'codes'
        >>> collapse_of(level.model_copy(update={"perplexity": 433.0}), images=100) is None
        True
    """
    if not has_collapsed(level.perplexity, level.codebook_size, level.grid, images):
        return None
    return "latents" if level.quantization_error < _NEGLIGIBLE_ERROR else "codes"


def count_relapses(trials: Sequence[Trial], arm: str) -> tuple[int, int]:
    """Count the finished trials of an arm that have a collapsed level.

    Args:
        trials: the trials of a study.
        arm: the name of the arm.

    Returns:
        The number of finished trials with a collapsed level, and the number of finished trials.
    """
    done = [trial for trial in trials if trial.arm == arm and trial.done]
    return sum(any(level.collapse for level in trial.levels or ()) for trial in done), len(done)
