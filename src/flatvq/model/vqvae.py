"""The vector-quantized autoencoder, with one level or a hierarchy of several levels.

Axes: B batch, C channels (1 or 3), H W rows and columns of pixels, h w rows and columns of a level's grid, D
code dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from flatvq.deprecation import renamed_arguments
from flatvq.errors import FlatvqError
from flatvq.model.blocks import build
from flatvq.model.inputs import code_vectors_for, images_for, require_indices, require_unit_range
from flatvq.model.layout import DecoderLayout, layout_of
from flatvq.quantize import Quantized, Quantizer
from flatvq.recipe import ModelRecipe

__all__ = ["VQVAE", "VQVAEOutput"]


@dataclass(frozen=True)
class VQVAEOutput:
    """The output of a forward pass."""

    reconstruction: Float[Tensor, "batch channels height width"]
    """The images on the [0, 1] scale, in the dtype of the weights or of autocast. They are not clamped, since
    that would change gradients."""
    levels: tuple[Quantized, ...]
    """The output of the quantizer of each level, bottom first."""


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

    Each upper level is encoded from the *continuous* features of the level below. A decoder takes the code
    vectors of its level, concatenated with those of all levels above, upsampled to its grid.

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

    def __init__(self, recipe: ModelRecipe, quantizers: Sequence[Quantizer]) -> None:
        super().__init__()
        expected = [
            (level.codebook_size, level.code_dim, level.code_dim, level.index_shape)
            for level in recipe.levels
        ]
        given = [(each.codebook_size, each.code_dim, each.input_dim, each.index_shape) for each in quantizers]
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
        self.decoders = nn.ModuleList(_Decoder(decoder) for decoder in layout.decoders)

    @property
    def factor(self) -> int:
        """The total downsampling. Height and width of images must be multiples of it."""
        return prod(level.downsample for level in self.recipe.levels)

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
        """Encode images to indices.

        Args:
            images: [B, C, H, W] in [0, 1]; C as in the recipe, H and W multiples of `factor`.

        Returns:
            [B, h, w] for each level, bottom first; [B, Q, h, w] for a residual quantizer of Q stages.

        Raises:
            FlatvqError: if axes, dtype, device or size do not fit, or a value is below -0.5 or above 1.5,
                which means another scale. In compiled or exported graphs, values are not checked.
        """
        checked = self._images(images)
        require_unit_range(checked)
        return tuple(level.indices for level in self._quantize(checked))

    def decode(
        self, indices: Sequence[Integer[Tensor, "batch *_"]]
    ) -> Float[Tensor, "batch channels height width"]:
        """Decode indices to images.

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
        """Decode code vectors to images. They need not be vectors of the codebook.

        Args:
            code_vectors: [B, D, h, w] for each level, bottom first. They are converted to the dtype of the
                weights.

        Returns:
            [B, C, H, W], approximately in [0, 1] but not clamped, in the dtype of the weights.

        Raises:
            FlatvqError: if the number of levels, axes, dtype, device or grids do not belong to one batch.
        """
        return self._decode(code_vectors_for(self.recipe, code_vectors, _weight(self.decoders)))

    def _images(self, images: Tensor) -> Tensor:
        return images_for(self.recipe, images, _weight(self.encoders))

    def _quantize(self, images: Tensor) -> tuple[Quantized, ...]:
        """Encode from the bottom up, then quantize from the top down: a level can use the codes above it."""
        below = 2 * images - 1
        features = [below := encoder(below) for encoder in self.encoders]
        levels: list[Quantized] = []
        for level in reversed(range(len(features))):
            # Only a conditioned hierarchy has a decoder for the level above. Otherwise the slice is empty.
            hints = [
                decoder([q.quantized for q in levels]) for decoder in self.decoders[level + 1 : level + 2]
            ]
            latents = self.projections[level](torch.cat([features[level], *hints], dim=1))
            levels.insert(0, self.quantizers[level](latents))
        return tuple(levels)

    def _decode(self, codes: list[Tensor]) -> Tensor:
        image: Tensor = self.decoders[0](codes)
        return (image + 1) / 2


def _weight(parts: nn.ModuleList) -> Tensor:
    """Return the first weight of the first part. Its device and dtype are those of the computation."""
    return next(parts[0].parameters())


class _Decoder(nn.Module):
    """Decodes the code vectors of a level and of all levels above it, bottom first, to the grid below."""

    def __init__(self, layout: DecoderLayout) -> None:
        super().__init__()
        self.upsamplers = nn.ModuleList(build(upsampler) for upsampler in layout.upsamplers)
        self.trunk = build(layout.trunk)

    def forward(self, codes: list[Tensor]) -> Tensor:
        own, *above = codes
        raised = [upsampler(code) for upsampler, code in zip(self.upsamplers, above, strict=True)]
        decoded: Tensor = self.trunk(torch.cat([own, *raised], dim=1))
        return decoded
