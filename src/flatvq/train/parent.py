"""Fine-tuning: a run that starts from the weights of a tokenizer, its parent."""

from __future__ import annotations

import torch

from flatvq.errors import FlatvqError
from flatvq.model import VQVAE
from flatvq.recipe import ModelRecipe, TrialRecipe
from flatvq.tokenizers import VQVAETokenizer, load

__all__ = ["parent_id", "start_from_parent", "with_parent"]

# Keys of a level that affect only its training.
_TRAINING_KEYS = ("commitment_weight", "start", "warmup_steps")


def with_parent(recipe: TrialRecipe, source: str) -> TrialRecipe:
    """Return the recipe changed so that it fine-tunes a tokenizer.

    Args:
        recipe: the recipe. The tokenizer replaces its model and the metric of its codebooks.
        source: the tokenizer, as for `flatvq.load`.

    Raises:
        FlatvqError: if the tokenizer cannot be read.
    """
    parent = load(source)
    levels = (level.model_copy(update={"start": 0, "warmup_steps": 0}) for level in parent.recipe.levels)
    return recipe.model_copy(
        update={
            "model": parent.recipe.model_copy(update={"levels": tuple(levels)}),
            "codebook": recipe.codebook.model_copy(update={"metric": _metric(parent)}),
            "train": recipe.train.model_copy(update={"parent": source}),
        }
    )


def parent_id(recipe: TrialRecipe) -> str:
    """Return the SHA-256 of the tokenizer that a run starts from; empty if it starts from random weights.

    Raises:
        FlatvqError: if the tokenizer cannot be read.
    """
    return load(recipe.train.parent).id if recipe.train.parent else ""


@torch.no_grad()
def start_from_parent(model: VQVAE, recipe: TrialRecipe) -> None:
    """Load the weights and code vectors of the parent into a new model. Its codebooks count as initialized.

    Moving averages and other training state start anew, because the step starts at 0.

    Raises:
        FlatvqError: if the parent cannot be read, or its model or metric differs from the recipe's.
    """
    source = recipe.train.parent
    if not source:
        return
    parent = load(source)
    expected = {"model": _architecture(recipe.model), "codebook.metric": recipe.codebook.metric}
    actual = {"model": _architecture(parent.recipe), "codebook.metric": _metric(parent)}
    for key in expected:
        if expected[key] != actual[key]:
            what = f"the {key} of the recipe differs from train.parent='{source}'"
            raise FlatvqError(
                what, f"use `flatvq train RECIPE --from {source}`, which uses the tokenizer's {key}"
            )
    # Without the training state, codebooks reset their counts and ages.
    model.load_state_dict(dict(parent.inference_tensors()), strict=False)


def _architecture(model: ModelRecipe) -> ModelRecipe:
    default = {key: type(model.levels[0]).model_fields[key].default for key in _TRAINING_KEYS}
    levels = (level.model_copy(update=default) for level in model.levels)
    return model.model_copy(update={"levels": tuple(levels)})


def _metric(tokenizer: VQVAETokenizer) -> str:
    return str(tokenizer.config.get("codebook", {}).get("metric", "euclidean"))
