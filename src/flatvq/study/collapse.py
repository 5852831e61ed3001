"""Whether a level ended collapsed, whatever was done against it, and of which kind the collapse is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

__all__ = ["Collapse", "collapse_of", "perplexity_share", "relapses"]

Collapse = Literal["codes", "latents"]

# Of the codes that the split has cells for. A uniform use of a tenth of them is the mildest case.
_SHARE = 0.1
# Of the latents' variance: less means that the few codes in use are all that the encoder gives.
_NOTHING_LOST = 0.01


def perplexity_share(perplexity: float, codebook_size: int, grid: Sequence[int], images: int) -> float:
    """Return the perplexity over the most that it could be: K, or the cells of the split if they are fewer.

    Example:
        >>> perplexity_share(256.0, 512, (8, 8), images=100), perplexity_share(32.0, 512, (8, 8), images=1)
        (0.5, 0.5)
    """
    return perplexity / min(codebook_size, images * prod(grid))


def collapse_of(level: Mapping[str, Any], grid: Sequence[int], images: int) -> Collapse | None:
    """Tell whether a level's codebook has collapsed.

    Args:
        level: `codebook_size`, `perplexity` and `quantization_error` over the whole held-out split.
        grid: its rows and columns.
        images: of the split: no more codes can be seen than it has cells.

    Returns:
        None for a perplexity of at least a tenth of the codes. `codes`: the latents differ but share few
        codes, which dead-code replacement mends. `latents`: the encoder gives few different latents, so
        replacement has nothing to draw from; a weaker commitment or a longer warm-up may help.

    Example:
        >>> level = {"codebook_size": 512, "perplexity": 9.6, "quantization_error": 0.001}
        >>> collapse_of(level, (8, 8), images=100)
        'latents'
        >>> collapse_of({**level, "quantization_error": 0.3}, (8, 8), images=100)
        'codes'
        >>> collapse_of({**level, "perplexity": 433.0}, (8, 8), images=100) is None
        True
    """
    if perplexity_share(level["perplexity"], level["codebook_size"], grid, images) >= _SHARE:
        return None
    return "latents" if level["quantization_error"] < _NOTHING_LOST else "codes"


def relapses(trials: Sequence[Mapping[str, Any]], arm: str) -> tuple[int, int]:
    """Count an arm's finished trials with a collapsed level, and its finished trials.

    Args:
        trials: as `study.json` holds them.
        arm: the arm's name.
    """
    done = [trial for trial in trials if trial["arm"] == arm and trial["status"] == "done"]
    return sum(any(level["collapse"] for level in trial["levels"]) for trial in done), len(done)
