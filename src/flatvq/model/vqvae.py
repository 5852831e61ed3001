"""The vector-quantized autoencoder, with one level or a hierarchy of several levels.

Axes: B batch, C channels (1 or 3), H W rows and columns of pixels, h w rows and columns of a level's grid, D
code dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, cast

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from flatvq.deprecation import renamed_arguments
from flatvq.errors import FlatvqError
from flatvq.model.blocks import build
from flatvq.model.decoders import Decoder, ResidualDecoder
from flatvq.model.inputs import code_vectors_for, images_for, require_indices, require_unit_range
from flatvq.model.layout import layout_of
from flatvq.model.mode import eval_mode
from flatvq.model.not_started import not_started
from flatvq.model.output import VQVAEOutput
from flatvq.quantize import Quantized, Quantizer
from flatvq.quantize.precision import without_autocast
from flatvq.recipe import ModelRecipe

__all__ = ["VQVAE"]


class VQVAE(nn.Module):
    """An autoencoder with one or several grids of codes.

    With two levels, a bottom (0) and a top (1)::

        images in [-1, 1]
              │
        ┌─────▼─────┐ features ┌───────────┐ features ┌──────────────┐
        │ encoder 0 ├────┬────▶│ encoder 1 ├─────────▶│ projection 1 │
        └───────────┘    │     └───────────┘          └──────┬───────┘
                         │                                   │ latents
                         │     ┌┄┄┄┄┄┄┄┄┄┄┄┐          ┌──────▼───────┐
                         │  ┌┄┄┤ decoder 1 │◀┄┄┄┄┄┄┄┄┄┤ quantizer 1  │
                         │  ┊  └┄┄┄┄┄┄┄┄┄┄┄┘          └──────┬───────┘
                  ┌──────▼──▼────┐                           │ codes
                  │ projection 0 │                     ┌─────▼─────┐
                  └──────┬───────┘                     │ upsampler │
                         │ latents                     └─────┬─────┘
                  ┌──────▼───────┐ codes                     │
                  │ quantizer 0  ├──────────────┐            │
                  └──────────────┘        ┌─────▼────────────▼─────┐
                                          │       decoder 0        │
                                          └───────────┬────────────┘
                                                      ▼ reconstruction

    - One level: only the parts numbered 0. z = E(x), k = argmin_j |z - e_j|, x' = D(e_k): van den Oord
      et al. (2017, arXiv 1711.00937), figure 1 and equations 1 and 2.
    - `parallel` hierarchy: without the dotted path, so that no level depends on the codes of another. This is
      the hierarchy of the public code of Reyhanian and Wiskott (2026, arXiv 2601.22244).
    - `conditioned` hierarchy: with the dotted path. e_top = Q(E_top(x)), e_bottom = Q(E_bottom(x, e_top)),
      x' = D(e_top, e_bottom): VQ-VAE-2, Razavi et al. (2019, arXiv 1906.00446), algorithm 1.
    - `residual` hierarchy: a level quantizes its latents minus the sum of the levels above it, and the
      decoder takes the sum of all levels. With upsamplers U, r_top = e_top, e_n = Q(E_n(x) - U_n(r_n+1)), r_n
      = e_n + U_n(r_n+1) and x' = D(r_0): residual quantization (RQ-VAE, Lee et al. 2022, arXiv 2203.01941,
      section 3.1) from a coarse grid to finer ones, as in VAR (Tian et al. 2024, arXiv 2404.02905, algorithms
      1 and 2). Unlike in VAR, each level has its own encoder. With the straight-through estimator, the two
      gradients of the reconstruction with respect to U_n(r_n+1) cancel. So the commitment losses of the
      levels below train the upper levels: they learn to predict the latents that the levels below quantize.

    Each upper level is encoded from the *continuous* features of the level below. Except in a residual
    hierarchy, a decoder takes the code vectors of its level and of all levels above, upsampled to its grid
    and concatenated.

    Args:
        recipe: the widths, the levels and the kind of hierarchy.
        quantizers: one per level, bottom first, with the `codebook_size` and `code_dim` of the recipe, and
            without a projection from another dimension.

    Raises:
        FlatvqError: if the quantizers do not fit the recipe.

    Example:
        >>> from flatvq.quantize import FiniteScalarQuantizer
        >>> from flatvq.recipe import LevelRecipe
        >>> recipe = ModelRecipe(levels=(LevelRecipe(scalar_levels=(8, 5)),), width=16, residual_width=4)
        >>> model = VQVAE(recipe, [FiniteScalarQuantizer((8, 5))]).eval()
        >>> (indices,) = model.encode(torch.rand(2, 3, 32, 48))
        >>> indices.shape, model.decode([indices]).shape
        (torch.Size([2, 8, 12]), torch.Size([2, 3, 32, 48]))
    """

    level_factors: Tensor

    def __init__(self, recipe: ModelRecipe, quantizers: Sequence[Quantizer]) -> None:
        super().__init__()
        expected = [
            (level.codebook_size, level.code_dim, level.code_dim, level.index_shape)
            for level in recipe.levels
        ]
        given = [(q.codebook_size, q.code_dim, q.input_dim, q.index_shape) for q in quantizers]
        if given != expected:
            names = "(codebook_size, code_dim, input_dim, index_shape)"
            raise FlatvqError(
                f"quantizers with {names} {given} are not those of the recipe",
                f"pass one per level, bottom first: {expected}",
            )
        layout = layout_of(recipe)
        self.recipe = recipe
        self.encoders = nn.ModuleList(build(encoder) for encoder in layout.encoders)
        self.projections = nn.ModuleList(build(projection) for projection in layout.projections)
        self.quantizers = nn.ModuleList(quantizers)
        self._starts_late = any(level.start or level.warmup_steps for level in recipe.levels)
        self._started = [True] * len(recipe.levels)
        if self._starts_late:  # a tensor, so that compiled graphs need not be compiled again when it changes
            self.register_buffer("level_factors", torch.ones(len(recipe.levels)), persistent=False)
            self.register_load_state_dict_post_hook(_leave_meta_device)  # type: ignore[no-untyped-call]
        self.decoders = nn.ModuleList(
            ResidualDecoder(decoder) if decoder.residual else Decoder(decoder) for decoder in layout.decoders
        )

    @property
    def factor(self) -> int:
        """The total downsampling. Height and width of images must be multiples of it."""
        return prod(level.downsample for level in self.recipe.levels)

    def set_step(self, step: int) -> None:
        """Set the number of training steps done, if the recipe has levels that start late (`levels.N.start`).

        Until a level starts, its code vectors are replaced by zeros, and it is not trained. If this is never
        called, all levels have started.

        Args:
            step: the number of steps before the next forward pass.
        """
        if not self._starts_late:
            return
        for number, level in enumerate(self.recipe.levels):
            factor = (step - level.start + 1) / (level.warmup_steps + 1)
            self._started[number] = factor > 0
            self.level_factors[number] = min(max(factor, 0.0), 1.0)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> VQVAEOutput:
        """Encode, quantize and decode images.

        In training mode this also updates the codebooks.

        Args:
            images: [B, C, H, W] in [0, 1]; C as in the recipe, H and W multiples of `factor`. They are
                converted to the dtype of the weights.

        Returns:
            The reconstruction, and the output of each quantizer.

        Raises:
            FlatvqError: if axes, dtype, device or size do not fit.
        """
        levels = self._quantize(self._images(images))
        return VQVAEOutput(self._decode([level.quantized for level in levels]), levels)

    @torch.no_grad()
    def encode(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Int64[Tensor, "batch *_"], ...]:
        """Encode images to indices. This trains nothing, even in training mode.

        Autocast has no effect, because it would change indices. A model in bfloat16 computes in bfloat16.

        Args:
            images: [B, C, H, W] in [0, 1]; C as in the recipe, H and W multiples of `factor`.

        Returns:
            [B, h, w] for each level, bottom first; [B, Q, h, w] for a residual quantizer of Q stages.

        Raises:
            FlatvqError: if axes, dtype, device or size do not fit, or a value is below -0.5 or above 1.5, so
                that the images have another scale. In compiled or exported graphs, values are not checked.
        """
        checked = self._images(images)
        require_unit_range(checked)
        with eval_mode(self), without_autocast(checked.device.type):
            return tuple(level.indices for level in self._quantize(checked))

    def decode(
        self, indices: Sequence[Integer[Tensor, "batch *_"]]
    ) -> Float[Tensor, "batch channels height width"]:
        """Decode indices to images. Autocast has no effect.

        Args:
            indices: integers for each level, bottom first, as `encode` returns them.

        Returns:
            [B, C, H, W], approximately in [0, 1] but not clamped, in the dtype of the weights.

        Raises:
            FlatvqError: if number of levels, axes, dtype or grids do not belong to one batch, or an index is
                outside [0, K).
        """
        require_indices(self.recipe, indices)
        quantizers = cast("Iterable[Quantizer]", self.quantizers)
        return self.decode_code_vectors(
            [quantizer.decode_indices(level) for quantizer, level in zip(quantizers, indices, strict=True)]
        )

    @renamed_arguments(codes="code_vectors")
    def decode_code_vectors(
        self, code_vectors: Sequence[Float[Tensor, "batch _ _ _"]]
    ) -> Float[Tensor, "batch channels _ _"]:
        """Decode code vectors to images. They need not be vectors of the codebook. Autocast has no effect.

        Args:
            code_vectors: [B, D, h, w] for each level, bottom first. They are converted to the dtype of the
                weights.

        Returns:
            [B, C, H, W], approximately in [0, 1] but not clamped, in the dtype of the weights.

        Raises:
            FlatvqError: if the number of levels, axes, dtype, device or grids do not belong to one batch.
        """
        checked = code_vectors_for(self.recipe, code_vectors, _weight(self.decoders))
        with without_autocast(checked[0].device.type):
            return self._decode(checked)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Also give the factors of the levels values on the way from the meta device."""
        has_no_values = self._starts_late and self.level_factors.is_meta
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if has_no_values:
            self._start_all(self.level_factors.device)
        return result

    def _start_all(self, device: torch.device) -> None:
        """Start all levels, as if `set_step` had never been called."""
        self._started = [True] * len(self.recipe.levels)
        self.level_factors = torch.ones(len(self.recipe.levels), device=device)

    def _images(self, images: Tensor) -> Tensor:
        return images_for(self.recipe, images, _weight(self.encoders))

    def _quantize(self, images: Tensor) -> tuple[Quantized, ...]:
        """Encode from the bottom up, then quantize from the top down: a level can use the codes above it."""
        below = 2 * images - 1
        features = [below := encoder(below) for encoder in self.encoders]
        levels: list[Quantized] = []
        total: Tensor | None = None
        for level in reversed(range(len(features))):
            # Only a conditioned hierarchy has a decoder for the level above. Otherwise the slice is empty.
            hints = [
                decoder(self._faded_in([q.quantized for q in levels], level + 1))
                for decoder in self.decoders[level + 1 : level + 2]
            ]
            latents = self.projections[level](torch.cat([features[level], *hints], dim=1))
            subtracted = self._subtracted(level, total)
            if subtracted is not None:
                latents = latents - subtracted
            if self._started[level] or not self.training:
                levels.insert(0, self.quantizers[level](latents))
            else:
                levels.insert(0, not_started(latents, self.recipe.levels[level].index_shape))
            (total,) = self._faded_in([levels[0].quantized], level)
            total = total if subtracted is None else total + subtracted
        return tuple(levels)

    def _faded_in(self, code_vectors: list[Tensor], lowest: int = 0) -> list[Tensor]:
        """Multiply code vectors by the factor of their level.

        Args:
            code_vectors: [B, D, h, w] of consecutive levels.
            lowest: the number of the first of these levels.
        """
        if not self._starts_late:
            return code_vectors
        return [level * self.level_factors[n].to(level.dtype) for n, level in enumerate(code_vectors, lowest)]

    def _subtracted(self, level: int, above: Tensor | None) -> Tensor | None:
        """Return what a residual hierarchy subtracts from latents, given the sum of the levels above."""
        decoder = self.decoders[0]
        if above is None or not isinstance(decoder, ResidualDecoder):
            return None
        subtracted: Tensor = decoder.upsamplers[level](above)
        return subtracted

    def _decode(self, code_vectors: list[Tensor]) -> Tensor:
        image: Tensor = self.decoders[0](self._faded_in(code_vectors))
        return (image + 1) / 2


def _weight(parts: nn.ModuleList) -> Tensor:
    """Return the first weight of the first part. Computations have its device and dtype."""
    return next(parts[0].parameters())


def _leave_meta_device(model: nn.Module, incompatible: object) -> None:
    """Give factors of levels values if `load_state_dict(assign=True)` gave the weights values."""
    assert isinstance(model, VQVAE)
    device = _weight(model.encoders).device
    if model.level_factors.device != device and model.level_factors.is_meta:
        model._start_all(device)
