"""When the codebooks of a training are initialized from data."""

from __future__ import annotations

from math import ceil, prod

from flatvq.model.layout import grids_of
from flatvq.recipe import TrialRecipe

__all__ = ["steps_to_initialize"]


def steps_to_initialize(recipe: TrialRecipe) -> list[int]:
    """Return the number of training steps after which the codebook of each level is initialized from data.

    A codebook that is not initialized is drawn again from each batch, and learns nothing.

    Args:
        recipe: the trial.

    Returns:
        The steps, bottom level first; 0 for a level without a codebook, with random first codes or with the
        codes of `train.parent`.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> steps_to_initialize(load_recipe("photographs").trial("two-level-healthy", 0))
        [161, 162]
    """
    init, crop = recipe.codebook.init, recipe.data.crop
    steps = []
    for level, grid in zip(recipe.model.levels, grids_of(recipe.model, (crop, crop)), strict=True):
        if init.kind == "random" or recipe.train.parent or not level.has_codebook:
            steps.append(0)
            continue
        vectors = recipe.train.batch_size * prod(grid)
        batches = ceil(init.vectors_per_code * level.codebook_size / vectors)
        # The stages of a residual quantizer collect vectors one after the other. The batch that completes a
        # stage is the first batch of the next stage.
        collecting = prod(level.index_shape) * (batches - 1) + 1
        own_steps = recipe.train.steps - level.start
        steps.append(level.start + int(init.start * own_steps) + collecting)
    return steps
