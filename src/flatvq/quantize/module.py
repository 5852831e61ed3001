"""The base class of quantizers: checks of arguments, and conversions between maps and flat vectors.

Axes: B batch, C input channels, D code dim, K codes, Q indices of a position, N = B x grid flattened vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from math import log2, prod

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from flatvq.deprecation import renamed_attribute
from flatvq.quantize.checks import plain, require_indices, require_mask
from flatvq.quantize.precision import Float32Module, without_autocast
from flatvq.quantize.result import Quantized
from flatvq.shapes import require_axes, require_floating, require_integers

__all__ = ["Quantizer"]


class Quantizer(Float32Module):
    """Base class of quantizers. A subclass implements `_quantize` and `_decode` on flat float32 vectors.

    Every quantizer has these properties:

    - It takes channel-first maps [B, C, *grid] or flat vectors [N, C] of any floating-point dtype, and
      returns `quantized` in that dtype. It computes in float32, also under autocast. Its state is float32.
    - `decode_indices(out.indices)` equals `out.quantized`.
    - Inputs of another shape, dtype or device, NaN, infinity and indices outside [0, K) raise an error.
    - Positions where a mask is False do not affect the codebook or the losses.
    - Without a valid position the losses are zero, with a graph.
    - In eval mode a call changes no state. It can be exported, traced, vmapped and differentiated.
    """

    codebook_size: int
    """K, the number of values of an index."""
    code_dim: int
    """D."""
    input_dim: int
    """C."""
    index_shape: tuple[int, ...] = ()
    """Axes of the indices of one position: () for one index, (Q,) for Q indices."""

    @property
    def bits_per_position(self) -> float:
        """Nominal bits of one position: Q log2 K."""
        return prod(self.index_shape) * log2(self.codebook_size)

    def forward(
        self, latents: Float[Tensor, "b c *grid"], mask: Bool[Tensor, "b *grid"] | None = None
    ) -> Quantized:
        """Quantize channel-first maps [B, C, *grid], or flat vectors [N, C].

        Args:
            latents: the outputs of the encoder.
            mask: bool [B, *grid] or [N], True for valid positions; all if None. Other positions may hold any
                values, including NaN, and get no gradient.

        Returns:
            Quantized vectors, indices and losses, with the axes of the input.

        Raises:
            FlatvqError: if a shape, dtype or device does not match.
            NonFiniteError: if a valid position holds NaN or infinity.
        """
        require_axes(latents, "latents", "B", self.input_dim, "*grid")
        require_floating(latents, "latents")
        latents = plain(latents)
        self._require_device(latents, "latents")
        with without_autocast(latents.device.type):
            flat, grid = _channel_last(latents.float())
            valid = None
            if mask is not None:
                require_mask(mask, grid, latents.device)
                valid = plain(mask).flatten()
                flat = torch.where(valid[:, None], flat, 0.0)
            out = self._quantize(flat, valid)
            quantized, indices, chosen, detached = out.quantized, out.indices, out.code_vectors, out.latents
            if valid is not None:
                quantized, detached, chosen = (
                    torch.where(valid[:, None], vectors, 0.0) for vectors in (quantized, detached, chosen)
                )
                indices = torch.where(valid.view(-1, *[1] * len(self.index_shape)), indices, -1)
        return Quantized(
            quantized=_channel_first(quantized, grid).to(latents.dtype),
            indices=_channel_first(indices, grid),
            codebook_loss=out.codebook_loss,
            commitment_loss=out.commitment_loss,
            entropy_loss=out.entropy_loss,
            latents=_channel_first(detached, grid),
            code_vectors=_channel_first(chosen, grid),
        )

    def decode_indices(
        self, indices: Integer[Tensor, "b *_"], mask: Bool[Tensor, "b *grid"] | None = None
    ) -> Float[Tensor, "b c *grid"]:
        """Return the quantized values of indices, as `forward` returns them in `quantized`.

        Args:
            indices: integers [B, *index_shape, *grid] or [N, *index_shape].
            mask: bool [B, *grid] or [N], True for valid positions; all if None. Other positions may hold any
                index and become zero.

        Returns:
            float32 [B, C, *grid] or [N, C].

        Raises:
            FlatvqError: if an index is outside [0, K), or a shape, dtype or device does not match.
        """
        require_axes(indices, "indices", "B", *self.index_shape, "*grid")
        require_integers(indices, "indices")
        indices = plain(indices).long()
        flat, grid = _channel_last(indices) if self.index_shape else (indices.flatten(), indices.shape)
        valid = None
        if mask is not None:
            require_mask(mask, grid, indices.device)
            valid = plain(mask).flatten()
        require_indices(flat, self.codebook_size, valid)
        self._require_device(indices, "indices")
        with without_autocast(indices.device.type):
            if valid is None:
                return _channel_first(self._decode(flat), grid)
            flat = torch.where(valid.view(-1, *[1] * len(self.index_shape)), flat, 0)
            return _channel_first(torch.where(valid[:, None], self._decode(flat), 0.0), grid)

    codes = renamed_attribute("codes", "decode_indices")

    @abstractmethod
    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        """Quantize flat vectors.

        Args:
            flat: float32 [N, C]; zero where not valid.
            valid: bool [N]; None if all are.

        Returns:
            Flat tensors [N, ...], with indices [N, *index_shape]. The base class overwrites invalid
            positions.
        """

    @abstractmethod
    def _decode(self, indices: Tensor) -> Tensor:
        """Return the quantized values float32 [N, C] of int64 [N, *index_shape], all in [0, K)."""

    def _require_device(self, tensor: Tensor, name: str) -> None:
        """Check that a tensor is on the device of the quantizer, if it has state."""


def _channel_last(maps: Tensor) -> tuple[Tensor, torch.Size]:
    """Flatten [B, C, *grid] into [N, C]; also return [B, *grid]."""
    if maps.ndim == 2:
        return maps, maps.shape[:1]
    moved = maps.movedim(1, -1)
    return moved.flatten(0, -2), moved.shape[:-1]


def _channel_first(vectors: Tensor, grid: torch.Size) -> Tensor:
    """Unflatten [N, D] into [B, D, *grid], and [N] into [B, *grid]."""
    if vectors.ndim == 1:
        return vectors.view(grid)
    maps = vectors if len(grid) == 1 else vectors.view(*grid, vectors.shape[1]).movedim(-1, 1)
    # A graph must not return views of intermediate results: the compiler may choose another memory layout.
    return maps.clone() if torch.compiler.is_compiling() else maps
