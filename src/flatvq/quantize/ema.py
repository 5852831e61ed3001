"""The update of a codebook: exponential moving averages, or gradients.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.quantize.checks import real_number

__all__ = ["Ema", "Gradient", "Update", "ema_step"]

# A code whose count is below this does not change. The smoothing has scaled it by about count / epsilon.
# Smaller scales would underflow, and a cosine code would lose its direction.
_MIN_COUNT = 1e-15
# Smallest divisor: the smallest normal number.
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Ema:
    """Exponential moving averages of counts and sums (van den Oord et al. 2017, appendix A.1).

    Args:
        decay: gamma, the weight of the previous average; in (0, 1).
        epsilon: term of the Laplace smoothing of counts.

    Raises:
        FlatvqError: if a setting is out of range.

    Example:
        >>> Ema(decay=1.5)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: Ema(decay) is 1.5: pass a number in (0, 1)
    """

    decay: float = 0.99
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        real_number("Ema(decay)", self.decay, above=0.0, below=1.0)
        real_number("Ema(epsilon)", self.epsilon, above=0.0, closed="[")


@dataclass(frozen=True)
class Gradient:
    """Gradient descent on the codebook loss (van den Oord et al. 2017, eq. 3, second term).

    Args:
        decay: decay of the moving averages of counts, by which inactive codes are detected.

    Raises:
        FlatvqError: if the decay is not in (0, 1).

    Example:
        >>> from flatvq.quantize import VectorQuantizer
        >>> type(VectorQuantizer(codebook_size=16, code_dim=4, update=Gradient()).codebook.weight).__name__
        'Parameter'
    """

    decay: float = 0.99

    def __post_init__(self) -> None:
        real_number("Gradient(decay)", self.decay, above=0.0, below=1.0)


Update = Ema | Gradient


def ema_step(code_vectors: Tensor, counts: Tensor, statistics: tuple[Tensor, Tensor], update: Ema) -> None:
    """Update codes and counts by one step, in place.

    N_k <- gamma N_k + (1 - gamma) n_k,  m_k <- gamma m_k + (1 - gamma) s_k,  e_k = m_k / N'_k
    with N'_k = (N_k + epsilon) / (N + K epsilon) N and N the sum of all N_k (appendix A.1). The sums m_k are
    not stored, because they are e_k N'_k. Therefore codes can be set without other state.

    Args:
        code_vectors: e, float32 [K, D].
        counts: N_k, float32 [K].
        statistics: n and s, the counts [K] and sums [K, D] of this batch.
        update: gamma and epsilon.

    Example:
        >>> code_vectors, counts = torch.tensor([[1.0]]), torch.tensor([1.0])
        >>> ema_step(code_vectors, counts, (torch.tensor([1.0]), torch.tensor([[3.0]])), Ema(decay=0.5))
        >>> code_vectors.tolist()
        [[2.0]]
    """
    batch_counts, batch_sums = statistics
    before = _smoothed(counts, update.epsilon)
    counts.lerp_(batch_counts, 1 - update.decay)
    after = _smoothed(counts, update.epsilon).clamp_min_(_TINY)
    # A code with such a small count has no vectors in this batch, so it keeps its value.
    scale = before.mul_(update.decay).div_(after).masked_fill_(counts <= _MIN_COUNT, 1.0)
    code_vectors.mul_(scale[:, None]).addcdiv_(batch_sums, after[:, None], value=1 - update.decay)


def _smoothed(counts: Tensor, epsilon: float) -> Tensor:
    """Return N'_k, the counts [K] with Laplace smoothing."""
    total = counts.sum()
    return (counts + epsilon).mul_(total / (total + len(counts) * epsilon))
