"""Exact search for the nearest codes, and looking them up, without an N x K matrix in memory.

Axes: N vectors, K codes, D code dim. On the CPU a compiled search does the work; where it could not be built,
FAISS' flat search does for short vectors and tiles of oneDNN's products for long ones. On a GPU a kernel of
Triton's does it, and where Triton is not there, as on other devices, tiles of matrix products.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int64
from torch import Tensor

from flatvq import kernels
from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.quantize.flat import FUSED_DIM, search_flat
from flatvq.quantize.native import Found, instructions, look_native, search_native
from flatvq.quantize.tiles import convolution_scores, product_scores, search_tiles
from flatvq.shapes import require_axes, require_floating

__all__ = ["look_up", "nearest_codes"]

# If the largest value is outside this range, squares may leave float32's.
_SAFE = (1e-12, 1e15)
# Binary exponent to which it is then brought: high, so that a stray huge value leaves room for the others.
_EXPONENT = 50
# A coordinate whose mean is this many standard deviations from zero is centred.
_OFFSET = 8.0
# Elements of one tile of scores, and codes in it. On the CPU (8 MiB in float32) it should stay in the caches,
# and be small enough for malloc to keep; elsewhere (64 MiB, or a thousandth of the device's memory) it should
# keep the device busy.
_CPU_TILE, _CPU_COLUMNS = 1 << 21, 1 << 11
_TILE, _COLUMNS = 1 << 24, 1 << 14


@torch.no_grad()
def nearest_codes(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int64[Tensor, " n"]:
    """Find the nearest code of each vector in Euclidean distance (van den Oord et al. 2017, eq. 1).

    The search is exact in float32: the distance of the code that is returned, computed in float64, exceeds
    the smallest one by no more than float32 rounding explains. Equal codes and exact ties go to the
    lowest index; where neither the compiled search, nor oneDNN, nor Triton is there, equal codes may be told
    apart by rounding. Autocast has no effect on it. Memory beyond the inputs is O(N D + K D): a copy or
    two. On the CPU up to 64 MiB stay in use between searches, for codebooks that came twice and may come
    again.

    Args:
        vectors: float32 [N, D]; other floating types are converted.
        codebook: float32 [K, D].

    Returns:
        int64 [N], each in [0, K).

    Raises:
        FlatvqError: if a shape does not fit or the codebook is empty.
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
        >>> nearest_codes(torch.tensor([[0.1, 0.2], [0.9, 0.9]]), codebook).tolist()
        [0, 1]
    """
    _check(vectors, codebook)
    if len(vectors) == 0:
        return torch.empty(0, dtype=torch.int64, device=vectors.device)
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        if vectors.device.type == "cpu" and instructions():
            return _search_compiled(vectors, codebook).indices
        vectors, codebook = _conditioned(vectors, codebook)
        if vectors.device.type == "cpu":
            return _search_on_cpu(vectors, codebook)
        if kernels.available(vectors.device):
            from flatvq.kernels.search import search

            return search(vectors, codebook)
        return _search_elsewhere(vectors, codebook)


def look_up(
    vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, ""]]:
    """Find the nearest code of each vector as `nearest_codes` does, and return the codes too.

    Args:
        vectors: float32 [N, D].
        codebook: float32 [K, D].

    Returns:
        Indices [N]; the codes [N, D]; and the mean of (z - e)^2 over all elements, zero if N is.

    Raises:
        FlatvqError: as `nearest_codes`.

    Example:
        >>> indices, codes, error = look_up(torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]))
        >>> indices.tolist(), codes.tolist(), round(error.item(), 4)
        ([0, 1], [[0.0], [1.0]], 0.01)
    """
    vectors, codebook = vectors.detach(), codebook.detach()
    floats = vectors.dtype == codebook.dtype == torch.float32
    if len(vectors) and vectors.device.type == "cpu" and floats and instructions():
        _check(vectors, codebook)
        indices, _, codes, error, _ = _search_compiled(vectors, codebook, look_up=True)
    else:
        indices, codes, error = nearest_codes(vectors, codebook), None, None
    if codes is None:
        codes = F.embedding(indices, codebook)
    if error is None:
        error = F.mse_loss(vectors.to(codes.dtype), codes) if len(vectors) else codes.new_zeros(())
    return indices, codes, error


def _check(vectors: Tensor, codebook: Tensor) -> None:
    require_axes(codebook, "codes", "K", "D")
    require_floating(codebook, "codes")
    if codebook.numel() == 0:
        raise FlatvqError(f"a codebook of shape {list(codebook.shape)} is empty", "pass at least one code")
    require_axes(vectors, "vectors", "N", codebook.shape[1])
    require_floating(vectors, "vectors")
    if vectors.device != codebook.device:
        raise FlatvqError(
            f"the vectors are on {vectors.device}, and the codebook on {codebook.device}",
            "move one of them with .to()",
        )


def _conditioned(vectors: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and centre both arrays alike where float32 squares would lose the distances.

    Both steps are exact where they matter: the scale is a power of two, and a coordinate is centred only if
    its values lie so close to their middle that the subtraction does not round (Sterbenz' lemma).
    """
    largest, any_far, far = _look(vectors, codebook)
    if largest > 0 and not _SAFE[0] < largest < _SAFE[1]:
        # In float64 and back: an extreme factor would itself over- or underflow in float32.
        factor = math.ldexp(1.0, _EXPONENT - math.frexp(largest)[1])
        vectors, codebook = (vectors.double() * factor).float(), (codebook.double() * factor).float()
        _, any_far, far = _look(vectors, codebook)  # whose squares may not have been right before
    if any_far:
        # The median is a value of the codebook: unlike the mean it keeps integers whole, and so exact ties.
        offset = codebook.new_zeros(codebook.shape[1])
        # By sorting: torch's median is refused on a GPU where deterministic algorithms are asked for.
        middle = (len(codebook) - 1) // 2
        offset[far] = codebook[:, far].sort(dim=0).values[middle]  # of these alone: it takes its time
        vectors, codebook = vectors - offset, codebook - offset
    return vectors, codebook


def _look(vectors: Tensor, codebook: Tensor) -> tuple[float, bool, Tensor]:
    """Return the largest absolute value, whether a coordinate is far from zero, and which [D] are.

    On a GPU that is one transfer, which the host waits for.
    """
    if kernels.available(vectors.device):
        from flatvq.kernels.search import look

        found, far = look(vectors, codebook, _OFFSET**2)
    else:
        far = _far_from_zero(codebook)
        sizes = [torch.stack(array.aminmax()).abs().amax() for array in (vectors, codebook)]
        found = torch.stack([*sizes, far.any().float()])
    in_vectors, in_codes, any_far = found.tolist()
    _check_finite("vectors", in_vectors)
    _check_finite("codebook", in_codes)
    return max(in_vectors, in_codes), bool(any_far), far


def _check_finite(name: str, largest: float) -> None:
    if not math.isfinite(largest):
        raise NonFiniteError(f"NaN or infinity in the {name}", "check for an encoder that diverged")


def _far_from_zero(codebook: Tensor) -> Tensor:
    """Tell the coordinates [D] whose codes lie far from zero beside how they spread."""
    mean = codebook.mean(dim=0)
    # Not torch's `std`, which takes longer than the search of a small codebook.
    variance = (codebook - mean).square_().mean(dim=0)
    return mean.square() > _OFFSET**2 * variance


def _search_compiled(vectors: Tensor, codebook: Tensor, look_up: bool = False) -> Found:
    """Search, conditioned as `_conditioned` does where values leave no doubt how, which is nearly always.

    Then the search looks at the vectors itself. A look at them beforehand is a pass over memory, as long as a
    quarter of the search of a small codebook.
    """
    clear, middle = look_native(codebook, *_SAFE, _OFFSET)
    if clear:
        moved = (vectors, codebook) if middle is None else (vectors - middle, codebook - middle)
        found = search_native(*moved, look_up=(vectors, codebook) if look_up else None)
        _check_finite("vectors", found.largest)
        if found.largest < _SAFE[1]:
            return found
    return search_native(*_conditioned(vectors, codebook))


def _search_on_cpu(vectors: Tensor, codebook: Tensor) -> Tensor:
    # FAISS fuses product and minimum for short vectors; for longer ones oneDNN multiplies faster.
    if vectors.shape[1] > FUSED_DIM and _onednn_is_exact():
        return search_tiles(vectors.contiguous(), codebook, convolution_scores, _CPU_TILE, _CPU_COLUMNS)
    return search_flat(vectors, codebook)


def _onednn_is_exact() -> bool:
    """Tell whether oneDNN is there and convolves in full float32, which a user can change."""
    onednn: Any = torch.backends.mkldnn
    return bool(onednn.is_available()) and onednn.conv.fp32_precision in ("none", "ieee")


def _search_elsewhere(vectors: Tensor, codebook: Tensor) -> Tensor:
    return search_tiles(vectors, codebook, product_scores, _tile(vectors.device), _COLUMNS)


def _tile(device: torch.device) -> int:
    """Return how many scores a tile may hold, in proportion to what the device has: 2^24 from 64 GiB up."""
    if device.type != "cuda":
        return _TILE
    return min(_TILE, torch.cuda.get_device_properties(device).total_memory // 1024 // 4)
