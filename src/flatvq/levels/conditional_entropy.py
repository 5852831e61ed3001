"""How much of an upper level the level below already tells.

Two small networks predict a level's codes cell by cell, one from the level's own earlier cells alone, one
from those and all codes of the level below. Their cross-entropies on held-out images are upper bounds of the
entropies H(top) and H(top | below); 1 - H(top | below) / H(top) is the share that the level below tells. It
is an estimate, not a bound, and small networks on few images know little.

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
from flatvq.levels.codes import as_images, codes_of, codes_of_level, encoded, stacked
from flatvq.levels.masked import CodePredictor
from flatvq.model import VQVAE
from flatvq.quantize import code_usage
from flatvq.randomness import derived_seed
from flatvq.recipe import TrialRecipe

__all__ = ["ConditionalEntropy", "conditional_entropy"]

_RATE, _DECAY, _LOOKS, _BATCH = 1e-3, 1e-2, 20, 64
# Share of the images that choose when to stop, and train nothing.
_CHOOSING = 0.1


@dataclass(frozen=True)
class ConditionalEntropy:
    """Cross-entropies of one level's codes on held-out images, in bits a code."""

    level: int
    """Number of the level; the one below it is `level - 1`."""
    nominal_bits: float
    """log2 K."""
    marginal_bits: float
    """Entropy of the pooled histogram: log2 of the perplexity."""
    alone_bits: float
    """Given the level's own earlier cells."""
    given_below_bits: float
    """Given those and the level below."""

    @property
    def share(self) -> float:
        """Share of the level that the level below tells."""
        return 1 - self.given_below_bits / self.alone_bits if self.alone_bits > 0 else 0.0


def conditional_entropy(
    model: VQVAE,
    recipe: TrialRecipe,
    data: DataSplit,
    pixels: Tensor,
    steps: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[ConditionalEntropy, ...]:
    """Train both networks for every upper level.

    Args:
        model: the tokenizer, in eval mode.
        recipe: its trial's: crops and seed.
        data: what it was trained on.
        pixels: held-out crops, uint8 [B, 3, H, W].
        steps: of training; the best of twenty looks at images that were kept aside counts.
        progress: called after each step.

    Returns:
        One estimate for each level from 1 up.
    """
    training, choosing = set_aside(data.training, _CHOOSING)
    aside = encoded(model, stacked(evaluation_crops(choosing, recipe.data.crop)))
    scales = [float(level.std()) or 1.0 for level in codes_of(model, [grid[:_BATCH] for grid in aside])]
    asking = [_Asked(model, recipe, level, scales) for level in range(1, len(recipe.model.levels))]
    seed = derived_seed(recipe.seed, "told")
    crops = TrainingCrops(training, recipe.data, seed=seed, batch_size=recipe.train.batch_size)
    with torch.random.fork_rng():  # dropout draws from torch's own generator
        torch.manual_seed(seed)
        for step, batch in enumerate(crops.batches(0, steps)):
            indices = model.encode(as_images(batch.pixels, model))
            for asked in asking:
                asked.learn(indices, step / steps)
                if (step + 1) % math.ceil(steps / _LOOKS) == 0 or step + 1 == steps:
                    asked.look(aside)
            progress()
    held_out = encoded(model, pixels)
    return tuple(asked.found(held_out) for asked in asking)


class _Asked:
    """The two networks of one level."""

    def __init__(self, model: VQVAE, recipe: TrialRecipe, level: int, scales: Sequence[float]) -> None:
        self.model, self.level, self.scales = model, level, scales
        own, below = recipe.model.levels[level], recipe.model.levels[level - 1]
        device = next(model.parameters()).device
        self.size = own.codebook_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.seed, "told", level))
            views = (None, (below.code_dim, own.downsample))
            self.nets = [CodePredictor(own.code_dim, self.size, view).to(device) for view in views]
        self.optimizers = [
            torch.optim.AdamW(net.parameters(), _RATE, weight_decay=_DECAY) for net in self.nets
        ]
        self.best = [(math.inf, net.state_dict()) for net in self.nets]

    def learn(self, indices: Sequence[Tensor], done: float) -> None:
        """Take one step; the learning rate falls along half a cosine."""
        codes, below, target = self._inputs(indices)
        for net, optimizer in zip(self.nets, self.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * (1 + math.cos(math.pi * done)) / 2
            loss = F.cross_entropy(net.train()(codes, below), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def look(self, indices: Sequence[Tensor]) -> None:
        """Keep the weights that predict best so far."""
        for number, net in enumerate(self.nets):
            bits = self._bits(net, indices)
            if bits < self.best[number][0]:
                self.best[number] = (bits, copy.deepcopy(net.state_dict()))

    def found(self, indices: Sequence[Tensor]) -> ConditionalEntropy:
        """Measure the best weights."""
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
            codes_of_level(self.model, level, indices[level]).detach() / self.scales[level]
            for level in (self.level - 1, self.level)
        )
        return own, below, indices[self.level]
