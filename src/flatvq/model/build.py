"""Builds models and quantizers from recipes."""

from __future__ import annotations

from typing import Any

import torch

from flatvq.model.memory import require_memory
from flatvq.model.vqvae import VQVAE
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    Quantizer,
    RandomInit,
    rotation_trick,
    straight_through,
)
from flatvq.randomness import derived_seed
from flatvq.recipe import (
    QUANTIZERS,
    CodebookRecipe,
    InitRecipe,
    LevelRecipe,
    ModelRecipe,
    ReplacementRecipe,
)

__all__ = ["build_quantizer", "build_vqvae"]


def build_vqvae(
    model: ModelRecipe, codebook: CodebookRecipe, *, seed: int = 0, steps: int | None = None
) -> VQVAE:
    """Build a VQ-VAE with its quantizers.

    Args:
        model: the architecture.
        codebook: the settings of all codebooks.
        seed: the seed of the first weights and of all random draws of the codebooks.
        steps: the number of training steps, from which the end of replacement is computed; None if the model
            will not be trained.

    Returns:
        The model, in training mode, on the CPU, with weights in the default dtype of torch.

    Raises:
        FlatvqError: if this machine has not enough memory for it.

    Example:
        >>> from flatvq.recipe import ModelRecipe, CodebookRecipe
        >>> model = build_vqvae(ModelRecipe(width=8, residual_width=4), CodebookRecipe())
        >>> model(torch.rand(1, 3, 32, 32)).reconstruction.shape
        torch.Size([1, 3, 32, 32])
    """
    require_memory(model)
    # Always on the CPU: another device would draw other weights from the same seed.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        quantizers = [
            build_quantizer(
                level,
                codebook,
                seed=derived_seed(seed, "codebook", number),
                steps=None if steps is None else max(0, steps - level.start),
            )
            for number, level in enumerate(model.levels)
        ]
        # `torch.manual_seed` would also seed the GPUs, whose random state is not forked here.
        torch.default_generator.manual_seed(derived_seed(seed, "weights"))
        return VQVAE(model, quantizers)


def build_quantizer(
    level: LevelRecipe, codebook: CodebookRecipe, *, seed: int, steps: int | None
) -> Quantizer:
    """Build the quantizer of one level with its entry in `flatvq.recipe.QUANTIZERS`.

    Args:
        level: the level.
        codebook: the settings of all codebooks.
        seed: the seed of the random draws of this codebook.
        steps: the number of training steps of this level; None if the model will not be trained.
    """
    decay = codebook.update.decay
    settings: dict[str, Any] = {
        "update": Ema(decay) if codebook.update.kind == "ema" else Gradient(decay),
        "estimator": rotation_trick if codebook.estimator == "rotation" else straight_through,
        "init": _init(codebook.init, steps),
        "replacement": _replacement(codebook.replacement, steps),
        "metric": codebook.metric,
        "seed": seed,
    }
    return QUANTIZERS[level.quantizer].build(level, settings)


def _init(recipe: InitRecipe, steps: int | None) -> RandomInit | DataInit | KMeansInit:
    if recipe.kind == "random":
        return RandomInit(recipe.distribution)
    kind = DataInit if recipe.kind == "data" else KMeansInit
    # Rounded down, so that it is a step of the training.
    return kind(recipe.vectors_per_code, start=int(recipe.start * (steps or 0)))


def _replacement(recipe: ReplacementRecipe | None, steps: int | None) -> DeadCodeReplacement | None:
    if recipe is None:
        return None
    stop = None if steps is None else round(recipe.stop * steps)
    return DeadCodeReplacement(
        every=recipe.every,
        start=recipe.start,
        stop=stop,
        fraction=recipe.fraction,
        share=recipe.share,
        grace=recipe.grace,
        count=recipe.count,
    )
