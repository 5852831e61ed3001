"""Lookup-free quantization: the sign of each coordinate is one bit of the index.

Axes: N flattened vectors, D bits.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from flatvq.quantize.checks import real_number, require_finite, whole_number
from flatvq.quantize.commitment import commitment_loss
from flatvq.quantize.distributed import Ranks
from flatvq.quantize.estimators import straight_through
from flatvq.quantize.module import Quantizer
from flatvq.quantize.result import Quantized

__all__ = ["LookupFreeQuantizer"]

# K is 2^D, and indices are int64.
_MAX_BITS = 62


class LookupFreeQuantizer(Quantizer):
    """Replace each coordinate by its sign, -1 or +1 (LFQ; Yu et al. 2023, arXiv 2310.05737, section 3.1).

    The code vectors are the 2^D corners of a cube, so there is no codebook to learn. The entropy loss
    E[H(p(c|z))] - H(E[p(c|z)]) (eq. 5) is small if latents are far from zero and each bit is 0 and 1 equally
    often. p is a softmax over negative squared distances, in which the bits are independent. The first term
    is exact. The second term is the sum of the entropies of the D bits. This upper bound is tight if the bits
    of E[p] are independent (BSQ; Zhao et al. 2024, arXiv 2406.07548, section 3.3), and needs no storage for
    2^D probabilities.

    Args:
        bits: D, from 1 to 62.
        temperature: temperature of the softmax.
        process_group: the processes over which E[p] is averaged; None for all.

    Raises:
        FlatvqError: if a setting is out of range.

    Example:
        >>> lfq = LookupFreeQuantizer(bits=3)
        >>> out = lfq(torch.tensor([[0.5, -2.0, 1.0]]))
        >>> out.indices.tolist(), out.quantized.tolist()
        ([5], [[1.0, -1.0, 1.0]])
        >>> lfq.decode_indices(out.indices).tolist()
        [[1.0, -1.0, 1.0]]
    """

    def __init__(
        self, bits: int, *, temperature: float = 1.0, process_group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__()
        self.input_dim = self.code_dim = whole_number("bits", bits, 1, _MAX_BITS)
        self.codebook_size = 2**self.code_dim
        self.temperature = real_number("temperature", temperature, above=0.0)
        self.ranks = Ranks(process_group)

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        require_finite(flat, "latents")
        is_set = flat.detach() > 0  # [N, D]
        code_vectors = 2.0 * is_set.float() - 1.0  # float32, also if the default dtype is another
        return Quantized(
            quantized=straight_through(flat, code_vectors),
            indices=(is_set.long() << self._places(flat.device)).sum(dim=1),
            codebook_loss=flat.new_zeros(()),
            commitment_loss=commitment_loss(flat, code_vectors, mask=valid),
            entropy_loss=self._entropy_loss(flat, valid),
            latents=flat.detach(),
            code_vectors=code_vectors,
        )

    def _decode(self, indices: Tensor) -> Tensor:
        digits = (indices[:, None] >> self._places(indices.device)) & 1
        return 2.0 * digits.float() - 1.0

    def _places(self, device: torch.device) -> Tensor:
        """Return the position of the bit of each coordinate, int64 [D]."""
        return torch.arange(self.code_dim, device=device)

    def _entropy_loss(self, flat: Tensor, valid: Tensor | None) -> Tensor:
        """Compute eq. 5 for float32 [N, D]. Without valid positions it is zero, with a graph."""
        weights = flat.new_ones(flat.shape[0]) if valid is None else valid.float()  # [N]
        # -|z - c|^2 of the two values of a bit differ by 4 z.
        logits = 4.0 * flat / self.temperature
        mean_entropy = _binary_entropy(logits).sum(dim=1) @ weights / weights.sum().clamp(min=1.0)
        return mean_entropy - self._entropy_of_mean(weights @ torch.sigmoid(logits), weights.sum())

    def _entropy_of_mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return the summed entropy of the D bits, each with its mean probability over `count` positions.

        Args:
            total: the sum of the probabilities of each bit, [D].
            count: the number of positions.
        """
        processes = self.ranks.world_size if self.training else 1
        if processes > 1:
            global_total, count = total.detach().clone(), count.clone()
            self.ranks.sum(global_total, count)
            # Data-parallel training averages gradients over processes, so the gradient is scaled up.
            total = global_total + processes * (total - total.detach())
        mean = total / count.clamp(min=1.0)
        return _binary_entropy(torch.logit(mean, eps=1e-6)).sum() * (count > 0)


def _binary_entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of bits that are set with probability sigmoid(logits), elementwise.

    H = softplus(x) - x sigmoid(x), which does not overflow for large logits.
    """
    return F.softplus(logits) - logits * torch.sigmoid(logits)
