"""Nearest codes by matrix products, a tile of scores at a time.

The nearest code of z is the one with the largest score z e - |e|^2 / 2. Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["convolution_scores", "product_scores", "search_tiles"]

Scores = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From vectors [n, D], codes [k, D] and what is added to each code's product [k] to scores [n, k]."""

# Scores whose maximum is looked for at once: torch finds maxima with vector instructions, places without.
_BLOCK = 64
# torch takes a 1x1 convolution of fewer images than this, run by one thread, for too small for oneDNN.
_IMAGES = 16


def search_tiles(vectors: Tensor, codebook: Tensor, scores: Scores, elements: int, columns: int) -> Tensor:
    """Find the code with the largest score of each vector; of equal scores, the first.

    Args:
        vectors: float32 [N, D].
        codebook: float32 [K, D].
        scores: how scores are computed.
        elements: of one tile, at most.
        columns: codes of one tile, at most.

    Returns:
        int64 [N].

    Example:
        >>> codebook = torch.tensor([[0.0], [2.0], [2.0]])
        >>> search_tiles(torch.tensor([[0.3], [1.4]]), codebook, product_scores, 4, 2).tolist()
        [0, 1]
    """
    codebook, offsets = _in_blocks(codebook, -codebook.square().sum(dim=1) / 2)
    columns = min(len(codebook), columns)
    rows = max(1, elements // columns)
    found = []
    for tile in torch.split(vectors, rows):
        best, where = _first_largest(scores(tile, codebook[:columns], offsets[:columns]))
        for start in range(columns, len(codebook), columns):
            part = slice(start, start + columns)
            score, index = _first_largest(scores(tile, codebook[part], offsets[part]))
            better = score > best  # and not if it is equal: the first of equals stays
            best, where = torch.where(better, score, best), torch.where(better, index + start, where)
        found.append(where)
    return torch.cat(found)


def product_scores(vectors: Tensor, codes: Tensor, offsets: Tensor) -> Tensor:
    """Compute a tile of scores on any device, in full float32 whatever the user allows elsewhere."""
    with _full_float32(vectors.device):
        return torch.addmm(offsets, vectors, codes.T)


def convolution_scores(vectors: Tensor, codes: Tensor, offsets: Tensor) -> Tensor:
    """Compute a tile of scores on the CPU as a 1x1 convolution.

    That is the one way to oneDNN's float32 product, which takes half the time of torch's own where the
    processor has AVX-512.
    """
    count, dim = vectors.shape
    images = _IMAGES if count % _IMAGES == 0 else 1
    maps = vectors.view(images, count // images, 1, dim).movedim(-1, 1)  # channels last: nothing moves
    scores = F.conv2d(maps, codes[:, :, None, None], offsets)
    return scores.movedim(1, -1).reshape(count, len(codes))


def _in_blocks(codebook: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Fill a codebook up to whole blocks with codes that are nearest to nothing."""
    missing = -len(codebook) % _BLOCK
    return F.pad(codebook, (0, 0, 0, missing)), F.pad(offsets, (0, missing), value=-math.inf)


def _first_largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of each row [n, k] and the first place where it stands."""
    if scores.device.type != "cpu" or scores.shape[1] % _BLOCK or scores.shape[1] == _BLOCK:
        largest, index = scores.max(dim=1)
        return largest, index
    blocks = scores.view(-1, _BLOCK)
    per_row = scores.shape[1] // _BLOCK
    largest, block = blocks.amax(dim=1).view(-1, per_row).max(dim=1)
    # `max` and `index_select` are several times as fast as `argmax` and `gather`.
    inside = (
        blocks.index_select(0, torch.arange(0, len(blocks), per_row, device=scores.device) + block)
        .max(dim=1)
        .indices
    )
    return largest, block * _BLOCK + inside


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """Keep TF32 out of matrix products on a GPU."""
    if device.type != "cuda":
        yield
        return
    allowed = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = allowed
