"""The update of a codebook by exponential moving averages, or the choice to use gradients instead.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.quantize.checks import real

__all__ = ["Ema", "Gradient", "Update", "ema_step"]

# Below this count a code stays where it is. The smoothing has shrunk it to e x count / epsilon, and soon it
# would underflow and lose its direction, which is all that a cosine code has.
_FADED = 1e-15
# Divisors are not below the smallest normal number.
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Ema:
    """Exponential moving averages of counts and sums (van den Oord et al. 2017, appendix A.1).

    Args:
        decay: gamma, the weight of the past; in (0, 1).
        epsilon: the Laplace smoothing of counts.
    """

    decay: float = 0.99
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        real("Ema(decay)", self.decay, above=0.0, below=1.0)
        real("Ema(epsilon)", self.epsilon, above=0.0, closed="[")


@dataclass(frozen=True)
class Gradient:
    """The codebook loss moves the codes (van den Oord et al. 2017, eq. 3, second term).

    Args:
        decay: of the counts, which still say what code is inactive.
    """

    decay: float = 0.99

    def __post_init__(self) -> None:
        real("Gradient(decay)", self.decay, above=0.0, below=1.0)


Update = Ema | Gradient


def ema_step(codes: Tensor, counts: Tensor, statistics: tuple[Tensor, Tensor], update: Ema) -> None:
    """Move codes and counts by one step, in place.

    N_k <- gamma N_k + (1 - gamma) n_k,  m_k <- gamma m_k + (1 - gamma) s_k,  e_k = m_k / N'_k
    with N'_k = (N_k + epsilon) / (N + K epsilon) N and N the sum of all N_k (appendix A.1). The sums m_k are
    not stored: they are e_k N'_k. So the codes can be set without setting anything else.

    Args:
        codes: e, float32 [K, D].
        counts: N_k, float32 [K].
        statistics: n and s, this batch's counts [K] and sums [K, D].
        update: gamma and epsilon.

    Example:
        >>> codes, counts = torch.tensor([[1.0]]), torch.tensor([1.0])
        >>> ema_step(codes, counts, (torch.tensor([1.0]), torch.tensor([[3.0]])), Ema(decay=0.5))
        >>> codes.tolist()
        [[2.0]]
    """
    batch_counts, batch_sums = statistics
    before = _smoothed(counts, update.epsilon)
    counts.lerp_(batch_counts, 1 - update.decay)
    after = _smoothed(counts, update.epsilon).clamp_min_(_TINY)
    # A faded code has no sums in the batch either, so that it stays where it is.
    kept = before.mul_(update.decay).div_(after).masked_fill_(counts <= _FADED, 1.0)
    codes.mul_(kept[:, None]).addcdiv_(batch_sums, after[:, None], value=1 - update.decay)


def _smoothed(counts: Tensor, epsilon: float) -> Tensor:
    """Laplace smoothing of counts [K]: N'_k."""
    total = counts.sum()
    return (counts + epsilon).mul_(total / (total + len(counts) * epsilon))
