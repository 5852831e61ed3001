"""Whether a trained level has a collapsed codebook, and the kind of collapse."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from flatvq.records import Trial
from flatvq.records.run import LevelMetrics

__all__ = ["Collapse", "collapse_of", "count_relapses", "perplexity_share"]

Collapse = Literal["codes", "latents"]

# A level has collapsed if its perplexity is below this share of its maximum.
_COLLAPSED_SHARE = 0.1
# Relative quantization error below which the few codes in use cover nearly all of the latents' variance.
_NEGLIGIBLE_ERROR = 0.01


def perplexity_share(perplexity: float, codebook_size: int, grid: Sequence[int], images: int) -> float:
    """Divide a perplexity by its maximum: K, or the number of cells of the split if that is smaller.

    Args:
        perplexity: the perplexity over the split.
        codebook_size: K.
        grid: rows and columns of the level.
        images: the number of images of the split.

    Returns:
        The share, between 0 and 1.

    Example:
        >>> perplexity_share(256.0, 512, (8, 8), images=100), perplexity_share(32.0, 512, (8, 8), images=1)
        (0.5, 0.5)
    """
    return perplexity / min(codebook_size, images * prod(grid))


def collapse_of(level: LevelMetrics, images: int) -> Collapse | None:
    """Return the kind of collapse of a level's codebook.

    Args:
        level: the metrics over the whole held-out split.
        images: the number of images of the split.

    Returns:
        None if the perplexity is at least a tenth of its maximum. `codes` if the latents differ but share few
        codes; dead-code replacement prevents this. `latents` if the encoder gives few different latents, so
        that replacement has no new vectors to draw; a smaller commitment weight or a longer warm-up may help.

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
    if perplexity_share(level.perplexity, level.codebook_size, level.grid, images) >= _COLLAPSED_SHARE:
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
