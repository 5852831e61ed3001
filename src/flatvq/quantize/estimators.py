"""How a gradient passes a lookup, which has none of its own.

Axes: N vectors, D code dim. Both functions return the codes; they differ in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Estimator", "rotation_trick", "straight_through"]

Estimator = Callable[[Tensor, Tensor], Tensor]

# Below this norm, or this closeness to opposite directions, a rotation is not defined in float32.
_TINY = 1e-6


def straight_through(vectors: Float[Tensor, "*n d"], codes: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Copy the gradient from the codes to the vectors (van den Oord et al. 2017, section 3.2).

    Args:
        vectors: encoder outputs [*N, D].
        codes: the code chosen for each [*N, D].

    Returns:
        The codes; the gradient goes unchanged to `vectors` and not to `codes`.

    Example:
        >>> z = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> straight_through(z, torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> z.grad.tolist()
        [[1.0, 1.0]]
    """
    return _valued(codes, vectors)


def rotation_trick(vectors: Float[Tensor, "n d"], codes: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Carry the gradient back through the rotation and scaling that take a vector to its code.

    Fifty et al. 2025, "Restructuring Vector Quantization with the Rotation Trick", section 4: with
    u = z/|z|, v = e/|e| and w = (u + v)/|u + v|, the code is (|e|/|z|) (I - 2 w w^T + 2 v u^T) z, and the
    bracket and the factor count as constants. Vectors too near to zero or opposite to their code have no
    such rotation; they get the straight-through gradient.

    Args:
        vectors: encoder outputs z [N, D].
        codes: the code e chosen for each [N, D].

    Returns:
        The codes; the gradient reaches `vectors` rotated and scaled, and does not reach `codes`.

    Example:
        >>> z = torch.tensor([[2.0, 0.0]], requires_grad=True)
        >>> rotation_trick(z, torch.tensor([[0.0, 1.0]]))[0, 1].backward()
        >>> z.grad.round(decimals=6)
        tensor([[0.5000, 0.0000]])
    """
    z, e = vectors.detach(), codes.detach()
    length, target = z.norm(dim=1, keepdim=True), e.norm(dim=1, keepdim=True)
    u, v = z / length.clamp_min(_TINY), e / target.clamp_min(_TINY)
    middle = u + v
    spread = middle.norm(dim=1, keepdim=True)
    w = middle / spread.clamp_min(_TINY)
    dot_w = (vectors * w).sum(dim=1, keepdim=True)
    dot_u = (vectors * u).sum(dim=1, keepdim=True)
    rotated = (target / length.clamp_min(_TINY)) * (vectors - 2 * dot_w * w + 2 * dot_u * v)
    defined = (length > _TINY) & (target > _TINY) & (spread > _TINY)
    return _valued(e, torch.where(defined, rotated, vectors))


def _valued(codes: Tensor, carrier: Tensor) -> Tensor:
    """Return the values of `codes`, bitwise, with the gradient of `carrier`."""
    # The usual carrier + (codes - carrier) rounds, and loses small codes beside large carriers altogether.
    return codes.detach() + (carrier - carrier.detach())
