"""The update of a codebook by exponential moving averages, or the choice to use gradients instead.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["Ema", "Gradient", "Update", "ema_step"]

# Below this count a code stays where it is. It has long faded to e x count / epsilon (the smoothing's doing),
# and soon its sum would underflow and lose even the direction, which is all there is to a cosine code.
_FADED = 1e-15


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
        if not 0 < self.decay < 1:
            raise FlatvqError(f"an EMA decay of {self.decay} is not in (0, 1)", "0.99 is common")


@dataclass(frozen=True)
class Gradient:
    """The codebook loss moves the codes (van den Oord et al. 2017, eq. 3, second term).

    Args:
        decay: of the counts, which still say what code is inactive.
    """

    decay: float = 0.99


Update = Ema | Gradient


def ema_step(
    codes: Tensor, counts: Tensor, sums: Tensor, statistics: tuple[Tensor, Tensor], update: Ema
) -> None:
    """Move codes, counts and sums by one step, in place.

    N_k <- gamma N_k + (1 - gamma) n_k,  m_k <- gamma m_k + (1 - gamma) s_k,  e_k = m_k / N'_k
    with N'_k = (N_k + epsilon) / (N + K epsilon) N and N the sum of all N_k (appendix A.1).

    Args:
        codes: e, float32 [K, D].
        counts: N_k, float32 [K].
        sums: m, float32 [K, D].
        statistics: n and s, this batch's counts [K] and sums [K, D].
        update: gamma and epsilon.

    Example:
        >>> codes, counts, sums = torch.tensor([[1.0]]), torch.tensor([1.0]), torch.tensor([[1.0]])
        >>> ema_step(codes, counts, sums, (torch.tensor([1.0]), torch.tensor([[3.0]])), Ema(decay=0.5))
        >>> codes.tolist()
        [[2.0]]
    """
    batch_counts, batch_sums = statistics
    counts.lerp_(batch_counts, 1 - update.decay)
    sums.lerp_(batch_sums, 1 - update.decay)
    total = counts.sum()
    smoothed = (counts + update.epsilon) / (total + len(counts) * update.epsilon) * total
    codes.copy_(torch.where(counts[:, None] > _FADED, sums / smoothed[:, None], codes))
