"""Train new decoders on frozen codes: with all levels, and without one of the upper levels.

The difference in PSNR is what the level adds to the other levels. Encoders and codebooks are frozen, so the
other levels cannot adapt to its absence.

Axes: B batch, H W rows and columns, h w a level's grid, D code dim.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flatvq.data import DataSplit, TrainingCrops
from flatvq.levels.codes import Decode, code_vectors_of, encode_pixels, mean_psnr, to_images
from flatvq.model import VQVAE, build_vqvae
from flatvq.randomness import derived_seed
from flatvq.recipe import TrialRecipe
from flatvq.train.machine import Machine
from flatvq.train.objective import RECONSTRUCTION_WEIGHT, learning_rate
from flatvq.train.optimizer import optimizer_for

__all__ = ["RefittedDecoder", "refit"]


@dataclass(frozen=True)
class RefittedDecoder:
    """The result of training a new decoder."""

    without: int | None
    """The level that was withheld from the decoder; None for all levels."""
    psnr_db: float
    """Mean PSNR over the held-out crops."""


def refit(
    model: VQVAE,
    recipe: TrialRecipe,
    data: DataSplit,
    pixels: Tensor,
    machine: Machine,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[RefittedDecoder, ...]:
    """Train one decoder with all levels, and one without each upper level, on the same batches.

    All decoders have the same architecture and initial weights. The codes of the withheld level are zeros.
    The learning rate follows the trial's schedule, stretched to `steps`.

    Args:
        model: the tokenizer, in eval mode; it is not changed.
        recipe: the recipe of its trial.
        data: the images that it was trained on.
        pixels: held-out crops, uint8 [B, 3, H, W].
        machine: where to train.
        steps: training steps of each decoder.
        progress: called after each step.

    Returns:
        The decoder with all levels, then those without level 1, 2, ...
    """
    settings = recipe.train.model_copy(update={"steps": steps})
    seed = derived_seed(recipe.seed, "refit")
    initial = build_vqvae(recipe.model, recipe.codebook, seed=seed).decoders[0].to(machine.device)
    initial.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    withheld = [None, *range(1, len(recipe.model.levels))]
    decoders = [copy.deepcopy(initial) for _ in withheld]
    optimizers = [optimizer_for(decoder, settings) for decoder in decoders]
    crops = TrainingCrops(data.training, recipe.data, seed=seed, batch_size=settings.batch_size)
    for step, batch in enumerate(crops.batches(0, steps)):
        images = to_images(batch.pixels, model)
        with torch.no_grad():
            codes = code_vectors_of(model, model.encode(images))  # in float32, as in evaluation
        for without, decoder, optimizer in zip(withheld, decoders, optimizers, strict=True):
            with machine.autocast():
                decoded = _decode_function(decoder, without)(codes)
            _step(decoder, optimizer, decoded, images, learning_rate(step, settings), settings.clip_norm)
        progress()
    with torch.no_grad():
        held_out = code_vectors_of(model, encode_pixels(model, pixels))
    return tuple(
        RefittedDecoder(without, mean_psnr(_decode_function(decoder.eval(), without), held_out, pixels))
        for without, decoder in zip(withheld, decoders, strict=True)
    )


def _decode_function(decoder: nn.Module, without: int | None) -> Decode:
    """Return a function that decodes code vectors, with zeros for the withheld level, to images in [0, 1]."""

    def decode(code_vectors: Sequence[Tensor]) -> Tensor:
        inputs = [
            torch.zeros_like(one) if level == without else one for level, one in enumerate(code_vectors)
        ]
        image: Tensor = decoder(inputs)
        return (image + 1) / 2

    return decode


def _step(
    decoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    decoded: Tensor,
    images: Tensor,
    rate: float,
    clip_norm: float,
) -> None:
    loss = RECONSTRUCTION_WEIGHT * F.mse_loss(decoded.float(), images)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(decoder.parameters(), clip_norm or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
