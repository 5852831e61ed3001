"""Checks and scaling of vectors and codes, so that float32 squares keep the distances.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flatvq.errors import NonFiniteError

__all__ = ["LARGEST", "OFFSET", "SMALLEST", "conditioned", "far_from_zero", "require_finite", "value_range"]

ValueRange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function with the arguments and results of `value_range`."""

# If the largest absolute value is not between these, squares may leave the range of float32.
SMALLEST, LARGEST = 1e-12, 1e15
# A coordinate is centered if its mean is this many standard deviations from zero.
OFFSET = 8.0
# The binary exponent that the largest value is scaled to. It is high, so that one huge value does not make
# the others underflow.
_EXPONENT = 50


def conditioned(
    vectors: Tensor, codebook: Tensor, measure: ValueRange | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and center both arrays in the same way, where float32 squares would lose the distances.

    Both steps are exact where it matters: the scale is a power of two, and a coordinate is centered only if
    its values lie so close to their median that the subtraction does not round (Sterbenz' lemma).

    Args:
        vectors: float32 [N, D], N >= 1.
        codebook: float32 [K, D].
        measure: computes the value range; `value_range` by default.

    Raises:
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> vectors, codebook = conditioned(torch.tensor([[1000.5]]), torch.tensor([[1000.0], [1001.0]]))
        >>> vectors.tolist(), codebook.tolist()
        ([[0.5]], [[0.0], [1.0]])
    """
    largest, any_far, far = _measured(vectors, codebook, measure)
    if largest > 0 and not SMALLEST < largest < LARGEST:
        # In float64 and back: an extreme factor would itself overflow or underflow in float32.
        factor = math.ldexp(1.0, _EXPONENT - math.frexp(largest)[1])
        vectors, codebook = (vectors.double() * factor).float(), (codebook.double() * factor).float()
        _, any_far, far = _measured(
            vectors, codebook, measure
        )  # again, because squares may have overflowed before
    if any_far:
        # The median is a value of the codebook. Unlike the mean it keeps integers whole, and so exact ties.
        medians = codebook.new_zeros(codebook.shape[1])
        # By sorting: torch's median is not available on a GPU with deterministic algorithms.
        middle = (len(codebook) - 1) // 2
        medians[far] = codebook[:, far].sort(dim=0).values[middle]
        vectors, codebook = vectors - medians, codebook - medians
    return vectors, codebook


def require_finite(name: str, largest: float) -> None:
    """Refuse arrays whose largest absolute value is NaN or infinite.

    Args:
        name: what the array holds.
        largest: its largest absolute value; NaN if a value is NaN.

    Raises:
        NonFiniteError: if it is not finite.
    """
    if not math.isfinite(largest):
        raise NonFiniteError(f"NaN or infinity in the {name}", "check for an encoder that diverged")


def far_from_zero(codebook: Tensor) -> Tensor:
    """Find the coordinates whose mean is far from zero compared with their spread.

    Args:
        codebook: float32 [K, D].

    Returns:
        bool [D].

    Example:
        >>> far_from_zero(torch.tensor([[1.0, 10.0], [-1.0, 11.0]])).tolist()
        [False, True]
    """
    mean = codebook.mean(dim=0)
    # Not `std` of torch, which takes longer than the search of a small codebook.
    variance = (codebook - mean).square_().mean(dim=0)
    return mean.square() > OFFSET**2 * variance


def value_range(vectors: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the largest values, and find the coordinates that are far from zero.

    Args:
        vectors: float32 [N, D], N >= 1.
        codebook: float32 [K, D].

    Returns:
        float32 [3]: the largest absolute values of vectors and codes, NaN if a value is NaN, and whether any
        coordinate is far from zero, as 0 or 1. And bool [D]: `far_from_zero`.
    """
    far = far_from_zero(codebook)
    largest = [torch.stack(array.aminmax()).abs().amax() for array in (vectors, codebook)]
    return torch.stack([*largest, far.any().float()]), far


def _measured(vectors: Tensor, codebook: Tensor, measure: ValueRange | None) -> tuple[float, bool, Tensor]:
    """Return the largest absolute value, whether any coordinate is far from zero, and which [D] are.

    On a GPU this is one transfer, which the host waits for.
    """
    values, far = (measure or value_range)(vectors, codebook)
    in_vectors, in_codes, any_far = values.tolist()
    require_finite("vectors", in_vectors)
    require_finite("codebook", in_codes)
    return max(in_vectors, in_codes), bool(any_far), far
