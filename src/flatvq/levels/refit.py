"""Decoders trained anew on frozen codes: with every level, and without one of the upper levels.

The difference is what the level adds to what the others already say. Encoders and codebooks stay as they are,
so a level that would have been trained otherwise had it stood alone is not given that chance.

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
from flatvq.levels.codes import Decode, as_images, codes_of, encoded, mean_psnr
from flatvq.model import VQVAE, build_vqvae
from flatvq.randomness import derived_seed
from flatvq.recipe import TrialRecipe
from flatvq.train.machine import Machine
from flatvq.train.objective import learning_rate
from flatvq.train.optimizer import optimizer_for

__all__ = ["Refitted", "refit"]


@dataclass(frozen=True)
class Refitted:
    """A decoder that was trained anew."""

    without: int | None
    """The level that it does not see; None if it sees all."""
    psnr_db: float
    """On the held-out crops, the mean over images."""


def refit(
    model: VQVAE,
    recipe: TrialRecipe,
    data: DataSplit,
    pixels: Tensor,
    machine: Machine,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Refitted, ...]:
    """Train one decoder with all levels, and one without each upper level, on the same batches.

    They have the same architecture and the same first weights; the codes of the absent level are zeros. The
    learning rate and its schedule are the trial's, over `steps`.

    Args:
        model: the tokenizer, in eval mode; it stays as it is.
        recipe: its trial's.
        data: what it was trained on.
        pixels: held-out crops, uint8 [B, 3, H, W].
        machine: where to train.
        steps: of each decoder.
        progress: called after each step.

    Returns:
        The decoder with all levels, then those without one, from level 1 up.
    """
    rule = recipe.train.model_copy(update={"steps": steps})
    seed = derived_seed(recipe.seed, "refit")
    fresh = build_vqvae(recipe.model, recipe.codebook, seed=seed).decoders[0].to(machine.device)
    fresh.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    absent = [None, *range(1, len(recipe.model.levels))]
    decoders = [copy.deepcopy(fresh) for _ in absent]
    optimizers = [optimizer_for(decoder, rule) for decoder in decoders]
    crops = TrainingCrops(data.training, recipe.data, seed=seed, batch_size=rule.batch_size)
    for step, batch in enumerate(crops.batches(0, steps)):
        images = as_images(batch.pixels, model)
        with torch.no_grad():
            codes = codes_of(model, model.encode(images))  # in float32, as it is evaluated
        for without, decoder, optimizer in zip(absent, decoders, optimizers, strict=True):
            with machine.autocast():
                decoded = _decoder(decoder, without)(codes)
            _step(decoder, optimizer, decoded, images, learning_rate(step, rule), rule.clip_norm)
        progress()
    with torch.no_grad():
        held_out = codes_of(model, encoded(model, pixels))
    return tuple(
        Refitted(without, mean_psnr(_decoder(decoder.eval(), without), held_out, pixels))
        for without, decoder in zip(absent, decoders, strict=True)
    )


def _decoder(decoder: nn.Module, without: int | None) -> Decode:
    def decode(codes: Sequence[Tensor]) -> Tensor:
        seen = [torch.zeros_like(own) if level == without else own for level, own in enumerate(codes)]
        image: Tensor = decoder(seen)
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
    loss = 4 * F.mse_loss(decoded.float(), images)  # on the [-1, 1] scale, as in training
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(decoder.parameters(), clip_norm or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
