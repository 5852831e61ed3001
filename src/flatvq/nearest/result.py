"""The results of a search backend and of a lookup."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor

__all__ = ["Lookup", "SearchResult"]

Lookup: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""The result of a lookup: indices int64 [N]; their code vectors, float32 [N, D]; and the mean of (z - e)^2
over all elements."""


class SearchResult(NamedTuple):
    """The nearest codes, and further values if the backend computed them in the same pass."""

    indices: Tensor
    """int64 [N], each in [0, K): the nearest code of each vector; of equally near ones, the lowest index."""
    code_vectors: Tensor | None = None
    """float32 [N, D]: the codes themselves, if the backend copied them."""
    error: Tensor | None = None
    """The mean of (z - e)^2 over all elements, if the backend computed it."""
