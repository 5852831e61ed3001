"""Metrics of a trial for errors that PSNR does not show: errors in text, and the contrast of fine patterns.

The measurements are the same as in `flatvq evaluate --text` and `--detail`.
"""

from __future__ import annotations

from statistics import fmean

from flatvq.errors import FlatvqError
from flatvq.evaluate.detail import evaluate_detail
from flatvq.evaluate.legibility import PAGE_SIDE, evaluate_text, require_reader
from flatvq.evaluate.octaves import octaves_of
from flatvq.recipe.sections import EvaluateRecipe
from flatvq.tokenizers import Tokenizer

__all__ = ["measure_benchmarks", "require_benchmarks"]


def require_benchmarks(recipe: EvaluateRecipe, crop: int) -> None:
    """Check that the measurements that a recipe asks for are possible, before anything is trained.

    Args:
        recipe: the section `evaluate`.
        crop: side of the crops, in pixels.

    Raises:
        MissingExtraError: if the recipe measures errors in text and the text reader is not installed.
        FlatvqError: if crops are too small for fine patterns.
    """
    if recipe.text:
        require_reader()
    if recipe.detail and not octaves_of(crop):
        raise FlatvqError(
            f"evaluate.detail is true, but crops of {crop} pixels are too small for it", "raise data.crop"
        )


def measure_benchmarks(tokenizer: Tokenizer, recipe: EvaluateRecipe, crop: int) -> dict[str, float]:
    """Return the metrics that a recipe asks for, by their keys in `flatvq.metrics.TRIAL_METRICS`.

    Args:
        tokenizer: the tokenizer.
        recipe: the section `evaluate`.
        crop: side of gratings, in pixels. Pages of text have 256 pixels or more.

    Returns:
        `text_error_rate`: the mean over the sizes of text that are read reliably in the original.
        `contrast_kept` and `fine_contrast_kept`: in gratings, the mean over octaves, and the finest octave.
    """
    values: dict[str, float] = {}
    if recipe.text:
        sizes = evaluate_text(tokenizer, side=max(PAGE_SIDE, crop))["sizes"]
        rates = [
            row["character_error_rate"]["reconstruction"]["mean"] for row in sizes if row["read_reliably"]
        ]
        if rates:
            values["text_error_rate"] = fmean(rates)
    if recipe.detail:
        octaves = evaluate_detail(tokenizer, side=crop)["octaves"]
        contrasts = [row["gratings"]["contrast_kept"]["mean"] for row in octaves]
        values |= {"contrast_kept": fmean(contrasts), "fine_contrast_kept": contrasts[0]}
    return values
