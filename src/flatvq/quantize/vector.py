"""The vector quantizer: nearest code, losses, gradient, and the codebook's upkeep.

Axes: B batch, C input channels, D code dim, K codes, N = B x grid flattened vectors.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int64
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.quantize.codebook import Codebook
from flatvq.quantize.commitment import commitment_loss
from flatvq.quantize.ema import Ema, Update
from flatvq.quantize.estimators import Estimator, straight_through
from flatvq.quantize.result import Quantized, check_channels
from flatvq.quantize.revival import Revival
from flatvq.quantize.seeding import KMeansSeeding, Seeding

__all__ = ["VectorQuantizer"]


class VectorQuantizer(nn.Module):
    """Replace each vector by its nearest code (van den Oord et al. 2017, section 3).

    ```
    latents [B, C, *grid] -> project -> z [N, D] --- nearest ---> indices [B, *grid]
                                          |             |
                                          +- estimator -+-> e [N, D] -> project -> quantized [B, C, *grid]
    ```

    In training mode a forward pass also keeps the codebook: seeding at first, then the update by moving
    averages, then the revival of inactive codes. In eval mode nothing changes. Codebook, search and state are
    float32 whatever the autocast.

    Args:
        codebook_size: K.
        code_dim: D.
        input_dim: C; if it is not D, linear maps lead to the space of the codes and back (ViT-VQGAN, Yu
            et al. 2022, section 3.2).
        metric: `euclidean`, or `cosine`: vectors and codes are scaled to unit length (same source).
        update: `Ema(...)` or `Gradient(...)`.
        estimator: `straight_through` or `rotation_trick`.
        seeding: `RandomSeeding(...)`, `DataSeeding(...)` or `KMeansSeeding(...)`.
        revival: `Revival(...)`, or None for none.
        seed: all draws of the codebook follow from it and the step.

    Example:
        >>> quantizer = VectorQuantizer(codebook_size=16, code_dim=4)
        >>> latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> out = quantizer(latents)
        >>> out.quantized.shape, out.indices.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 8, 8]))
        >>> len(out.indices.unique())
        16
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        input_dim: int | None = None,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        update: Update | None = None,
        estimator: Estimator = straight_through,
        seeding: Seeding | None = None,
        revival: Revival | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if codebook_size < 1 or code_dim < 1:
            raise FlatvqError(
                f"a codebook of {codebook_size} x {code_dim} is empty", "give sizes of 1 or more"
            )
        if metric not in ("euclidean", "cosine"):
            raise FlatvqError(f"unknown metric {metric!r}", "choose 'euclidean' or 'cosine'")
        self.codebook_size = codebook_size
        self.code_dim = code_dim
        self.estimator = estimator
        self._scaled = _unit_length if metric == "cosine" else _as_is
        self.codebook = Codebook(
            codebook_size, code_dim, update or Ema(), seeding or KMeansSeeding(), revival, self._scaled, seed
        )
        self.input_dim = width = input_dim or code_dim
        self.project_in = nn.Linear(width, code_dim) if width != code_dim else nn.Identity()
        self.project_out = nn.Linear(code_dim, width) if width != code_dim else nn.Identity()

    def forward(self, latents: Float[Tensor, "b c *grid"]) -> Quantized:
        """Quantize channel-first maps [B, C, *grid], or flat vectors [N, C]."""
        check_channels(latents, self.input_dim)
        with _float32(latents.device.type):
            flat, grid = _channel_last(latents)
            vectors = self._scaled(self.project_in(flat.float()))  # [N, D]
            fixed = vectors.detach()
            indices, chosen, error = self.codebook.look_up(fixed)  # eq. 1 and 2
            commitment = commitment_loss(vectors, chosen, error)  # eq. 3, third term, without beta
            codebook_loss = commitment.detach()  # eq. 3, second term: the same value
            if torch.is_grad_enabled() and self.codebook.codes.requires_grad:
                # From a copy: a later forward pass may revive codes before this one's backward pass.
                learned = F.embedding(indices, self._scaled(self.codebook.codes.clone()))
                codebook_loss = F.mse_loss(learned, fixed)
            quantized = self.project_out(self.estimator(vectors, chosen))
        return Quantized(
            quantized=_channel_first(quantized, grid).to(latents.dtype),
            indices=indices.view(grid),
            codebook_loss=codebook_loss,
            commitment_loss=commitment,
            latents=_channel_first(fixed, grid),
            codes=_channel_first(chosen, grid),
        )

    def codes(self, indices: Int64[Tensor, "b *grid"]) -> Float[Tensor, "b c *grid"]:
        """Look up indices [B, *grid]: what `forward` gave as `quantized` for them."""
        with _float32(indices.device.type):
            codes = F.embedding(indices.flatten(), self._scaled(self.codebook.codes))
            return _channel_first(self.project_out(codes), indices.shape)


def _float32(device: str) -> AbstractContextManager[object]:
    """Turn autocast off, where it is on: to enter its context takes as long as ten operations."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _channel_last(maps: Tensor) -> tuple[Tensor, torch.Size]:
    """Flatten [B, C, *grid] into [N, C]; also return [B, *grid]."""
    if maps.ndim == 2:
        return maps, maps.shape[:1]
    moved = maps.movedim(1, -1)
    return moved.flatten(0, -2), moved.shape[:-1]


def _channel_first(vectors: Tensor, grid: torch.Size) -> Tensor:
    """Unflatten [N, D] into [B, D, *grid]."""
    maps = vectors if len(grid) == 1 else vectors.view(*grid, vectors.shape[1]).movedim(-1, 1)
    # A graph must not give out views of its inside: the compiler may lay that out in another way.
    return maps.clone() if torch.compiler.is_compiling() else maps


def _unit_length(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=1)


def _as_is(vectors: Tensor) -> Tensor:
    return vectors
