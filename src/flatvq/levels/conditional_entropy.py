"""Estimate the entropy of an upper level's codes, alone and given the level below.

Two small networks predict a level's codes cell by cell: one from the earlier cells of the level, the other
also from all codes of the level below. Their cross-entropies on held-out images are upper bounds of the
entropies H(top) and H(top | below).

The share of the level that the level below determines is 1 - H(top | below) / H(top). It is an estimate, not
a bound: small networks trained on few images predict codes poorly.

Axes: B images, h w rows and columns of a level's grid, D code dim, K codes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.data import DataSplit, TrainingCrops, evaluation_crops
from flatvq.data.subset import set_aside
from flatvq.levels.codes import code_vectors_of, encode_pixels, level_code_vectors, stack_crops, to_images
from flatvq.levels.masked import CodePredictor
from flatvq.model import VQVAE
from flatvq.quantize import code_usage
from flatvq.randomness import derived_seed
from flatvq.recipe import TrialRecipe

__all__ = ["ConditionalEntropy", "conditional_entropy"]

_LEARNING_RATE, _WEIGHT_DECAY, _VALIDATIONS, _BATCH = 1e-3, 1e-2, 20, 64
# Share of the training images on which the networks are validated instead of trained.
_VALIDATION_SHARE = 0.1
# Part of the key of all random numbers. Another name would change the results.
_PURPOSE = "told"


@dataclass(frozen=True)
class ConditionalEntropy:
    """Cross-entropies of one level's codes on held-out images, in bits per code."""

    level: int
    """Index of the level, the bottom being 0; the level below is `level - 1`."""
    nominal_bits: float
    """log2 K."""
    marginal_bits: float
    """Entropy of the histogram of all codes: log2 of the perplexity."""
    alone_bits: float
    """Cross-entropy given the earlier cells of the level."""
    given_below_bits: float
    """Cross-entropy given the earlier cells and the level below."""

    @property
    def share(self) -> float:
        """Estimated share of the level that the level below determines."""
        return 1 - self.given_below_bits / self.alone_bits if self.alone_bits > 0 else 0.0


def conditional_entropy(
    model: VQVAE,
    recipe: TrialRecipe,
    data: DataSplit,
    pixels: Tensor,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[ConditionalEntropy, ...]:
    """Train both networks for every upper level, and measure their cross-entropies.

    Args:
        model: the tokenizer, in eval mode.
        recipe: the recipe of its trial. Only its data, batch size and seed are used.
        data: the images that it was trained on.
        pixels: held-out crops, uint8 [B, 3, H, W].
        steps: training steps. The weights of the best of 20 validations are kept.
        progress: called after each step.

    Returns:
        One estimate for each level from 1 up.
    """
    training, validation = set_aside(data.training, _VALIDATION_SHARE)
    validation_indices = encode_pixels(model, stack_crops(evaluation_crops(validation, recipe.data.crop)))
    first_codes = code_vectors_of(model, [grid[:_BATCH] for grid in validation_indices])
    scales = [float(level.std()) or 1.0 for level in first_codes]
    predictors = [
        _LevelPredictors(model, recipe, level, scales) for level in range(1, len(recipe.model.levels))
    ]
    seed = derived_seed(recipe.seed, _PURPOSE)
    crops = TrainingCrops(training, recipe.data, seed=seed, batch_size=recipe.train.batch_size)
    with torch.random.fork_rng():  # dropout draws from torch's own generator
        torch.manual_seed(seed)
        for step, batch in enumerate(crops.batches(0, steps)):
            indices = model.encode(to_images(batch.pixels, model))
            for predictor in predictors:
                predictor.train_step(indices, step / steps)
                if (step + 1) % math.ceil(steps / _VALIDATIONS) == 0 or step + 1 == steps:
                    predictor.validate(validation_indices)
            progress()
    held_out = encode_pixels(model, pixels)
    return tuple(predictor.measure(held_out) for predictor in predictors)


class _LevelPredictors:
    """The two networks that predict the codes of one level.

    Args:
        model: the tokenizer.
        recipe: the recipe of its trial.
        level: index of the level.
        scales: standard deviation of the code vectors of each level, by which they are divided.
    """

    def __init__(self, model: VQVAE, recipe: TrialRecipe, level: int, scales: Sequence[float]) -> None:
        self.model, self.level, self.scales = model, level, scales
        own, below = recipe.model.levels[level], recipe.model.levels[level - 1]
        device = next(model.parameters()).device
        self.size = own.codebook_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.seed, _PURPOSE, level))
            inputs_below = (None, (below.code_dim, own.downsample))
            self.nets = [CodePredictor(own.code_dim, self.size, source).to(device) for source in inputs_below]
        self.optimizers = [
            torch.optim.AdamW(net.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
            for net in self.nets
        ]
        self.best = [(math.inf, net.state_dict()) for net in self.nets]

    def train_step(self, indices: Sequence[Tensor], progress: float) -> None:
        """Train both networks for one step, with cosine decay of the learning rate.

        Args:
            indices: of every level, bottom first.
            progress: share of the steps that are done, in [0, 1).
        """
        codes, below, target = self._inputs(indices)
        for net, optimizer in zip(self.nets, self.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2
            loss = F.cross_entropy(net.train()(codes, below), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def validate(self, indices: Sequence[Tensor]) -> None:
        """Save the weights of each network if they predict these indices better than before."""
        for number, net in enumerate(self.nets):
            bits = self._bits(net, indices)
            if bits < self.best[number][0]:
                self.best[number] = (bits, copy.deepcopy(net.state_dict()))

    def measure(self, indices: Sequence[Tensor]) -> ConditionalEntropy:
        """Return the cross-entropies of the best weights on these indices."""
        for net, (_, weights) in zip(self.nets, self.best, strict=True):
            net.load_state_dict(weights)
        alone, given = (self._bits(net, indices) for net in self.nets)
        marginal = code_usage(indices[self.level].flatten().bincount(minlength=self.size)).effective_bits
        return ConditionalEntropy(self.level, math.log2(self.size), marginal, alone, given)

    @torch.no_grad()
    def _bits(self, net: CodePredictor, indices: Sequence[Tensor]) -> float:
        total, cells = 0.0, 0
        for part in zip(*(torch.split(level, _BATCH) for level in indices), strict=True):
            codes, below, target = self._inputs(part)
            total += float(F.cross_entropy(net.eval()(codes, below), target, reduction="sum"))
            cells += target.numel()
        return total / cells / math.log(2)

    def _inputs(self, indices: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        below, own = (
            level_code_vectors(self.model, level, indices[level]).detach() / self.scales[level]
            for level in (self.level - 1, self.level)
        )
        return own, below, indices[self.level]
