"""Finite scalar quantization, which has no codebook.

Axes: N flattened vectors, D coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.quantize.checks import require_finite, whole_number
from flatvq.quantize.estimators import straight_through
from flatvq.quantize.module import Quantizer
from flatvq.quantize.result import Quantized

__all__ = ["FiniteScalarQuantizer"]

# Indices are int64.
_MAX_CODES = 2**63


class FiniteScalarQuantizer(Quantizer):
    """Round each of D bounded coordinates to one of its levels (Mentzer et al. 2023, section 3.1).

    All losses are zero, because there is no codebook.

    Args:
        levels: L_1 ... L_D, each from 2 to 65,536. K is their product; [8, 5, 5, 5] gives K = 1000.

    Raises:
        FlatvqError: if there are no levels, one is not in [2, 65536], or their product exceeds 2^63.

    Example:
        >>> fsq = FiniteScalarQuantizer([8, 5, 5, 5])
        >>> out = fsq(torch.zeros(1, 4, 2, 2))
        >>> out.indices.shape, fsq.codebook_size
        (torch.Size([1, 2, 2]), 1000)
        >>> bool((fsq.decode_indices(out.indices) == out.quantized).all())
        True
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(levels, Iterable) or isinstance(levels, AbstractSet):  # sets drop equal levels
            raise FlatvqError(f"levels is {levels!r}", "pass a list such as [8, 5, 5, 5]")
        self.levels = tuple(whole_number(f"levels[{n}]", level, 2, 2**16) for n, level in enumerate(levels))
        if not self.levels:
            raise FlatvqError("levels is empty", "pass at least one level of 2 or more")
        self.codebook_size = math.prod(self.levels)
        if self.codebook_size > _MAX_CODES:
            bits = math.log2(self.codebook_size)
            raise FlatvqError(
                f"levels {list(self.levels)} make 2^{bits:.0f} codes, which int64 cannot number",
                "use fewer or smaller levels",
            )
        self.input_dim = self.code_dim = len(self.levels)
        self._lattice = _Lattice.of(self.levels, "cpu")

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        require_finite(flat, "latents")
        lattice = self._lattice_on(flat.device)
        # Bound each coordinate so that rounding gives one of its levels (the paper's listing, `bound`).
        bounded = torch.tanh(flat + lattice.shift) * lattice.half_range - lattice.offset
        rounded = straight_through(bounded, bounded.detach().round())
        digits = (rounded.detach() + lattice.half).long()
        quantized = rounded / lattice.half
        zero = flat.new_zeros(())
        return Quantized(
            quantized=quantized,
            indices=(digits * lattice.places).sum(dim=-1),
            codebook_loss=zero,
            commitment_loss=zero,
            entropy_loss=zero,
            latents=bounded.detach() / lattice.half,
            code_vectors=quantized.detach(),
        )

    def _decode(self, indices: Tensor) -> Tensor:
        """Return points of the lattice, in [-1, 1]."""
        lattice = self._lattice_on(indices.device)
        digits = indices[:, None] // lattice.places % lattice.levels
        return (digits - lattice.half) / lattice.half

    def _lattice_on(self, device: torch.device) -> _Lattice:
        """Return the constants on a device. They are not part of the state."""
        if self._lattice.places.device == device:
            return self._lattice
        with torch.inference_mode(False):  # later calls may need gradients
            lattice = _Lattice.of(self.levels, device)
        if not torch.compiler.is_compiling():
            self._lattice = lattice
        return lattice


class _Lattice(NamedTuple):
    """Constants of the coordinates, each [D]."""

    levels: Tensor
    """Number of levels L, int64."""
    places: Tensor
    """Difference of the index between two neighbouring levels, int64."""
    half: Tensor
    """Number of levels below the value 0, float32."""
    half_range: Tensor
    """Half the width of the range before rounding, float32."""
    offset: Tensor
    """Distance from the middle of this range to the value 0, float32."""
    shift: Tensor
    """Negative of the latent that is mapped to 0, float32."""

    @classmethod
    def of(cls, levels: tuple[int, ...], device: torch.device | str) -> _Lattice:
        """Compute the constants."""
        places = [math.prod(levels[:n]) for n in range(len(levels))]

        def floats(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device="cpu")

        # Slightly more than half the span of the levels. In the paper it is (L - 1)(1 - eps) / 2, slightly
        # less, for which the inverse tanh is undefined with 2 levels. With a factor in place of the constant,
        # a coordinate of many levels could be rounded to one more level.
        half_range = floats([(level - 1) / 2 + 5e-4 for level in levels])
        offset = floats([0.5 if level % 2 == 0 else 0.0 for level in levels])
        half = floats([float(level // 2) for level in levels])
        integers = [torch.tensor(values, device="cpu") for values in (levels, places)]
        constants = *integers, half, half_range, offset, torch.atanh(offset / half_range)
        return cls(*(constant.to(device) for constant in constants))
