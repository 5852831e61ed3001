"""Nearest codes by matrix products, a tile of scores at a time.

The nearest code of z is the one with the largest score z e - |e|^2 / 2. Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["convolution_missing", "search_by_convolutions", "search_by_products", "search_tiles"]

Scores = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Computes scores [n, k] from vectors [n, D], codes [k, D] and offsets [k] of the codes."""

# Scores in a block whose maximum is taken first: torch computes maxima with vector instructions, and their
# positions without.
_BLOCK = 64
# torch does not use oneDNN for a 1x1 convolution of fewer images than this in one thread.
_IMAGES = 16
# Elements of one tile of scores, and codes in it. On the CPU (8 MiB in float32) a tile should stay in the
# caches, and be small enough for malloc to keep. Elsewhere (64 MiB, or a thousandth of the device's memory)
# it should keep the device busy.
_CPU_TILE, _CPU_COLUMNS = 1 << 21, 1 << 11
_TILE, _COLUMNS = 1 << 24, 1 << 14


def search_by_convolutions(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest codes on the CPU by oneDNN's 1x1 convolutions.

    Args:
        vectors: float32 [N, D], N >= 1.
        codebook: float32 [K, D].

    Returns:
        int64 [N].
    """
    return search_tiles(vectors.contiguous(), codebook, _convolution_scores, _CPU_TILE, _CPU_COLUMNS)


def search_by_products(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest codes on any device by matrix products.

    Equal codes may get scores that differ by rounding, so the first of them is not always found.

    Args:
        vectors: float32 [N, D], N >= 1.
        codebook: float32 [K, D].

    Returns:
        int64 [N].
    """
    return search_tiles(vectors, codebook, _product_scores, _tile(vectors.device), _COLUMNS)


def convolution_missing() -> str:
    """Return why oneDNN does not convolve in full float32 here, or an empty string if it does.

    A user can allow it to round.
    """
    onednn: Any = torch.backends.mkldnn
    if not onednn.is_available():
        return "PyTorch was built without oneDNN"
    precision = onednn.conv.fp32_precision
    return "" if precision in ("none", "ieee") else f"oneDNN's convolutions are set to round to {precision}"


def search_tiles(vectors: Tensor, codebook: Tensor, scores: Scores, elements: int, columns: int) -> Tensor:
    """Find the code with the largest score of each vector; of equal scores, the first.

    Args:
        vectors: float32 [N, D].
        codebook: float32 [K, D].
        scores: how scores are computed.
        elements: the most elements of one tile.
        columns: the most codes of one tile.

    Returns:
        int64 [N].

    Example:
        >>> codebook = torch.tensor([[0.0], [2.0], [2.0]])
        >>> search_tiles(torch.tensor([[0.3], [1.4]]), codebook, _product_scores, 4, 2).tolist()
        [0, 1]
    """
    codebook, offsets = _in_blocks(codebook, -codebook.square().sum(dim=1) / 2)
    columns = min(len(codebook), columns)
    rows = max(1, elements // columns)
    nearest = []
    for tile in torch.split(vectors, rows):
        best, where = _first_largest(scores(tile, codebook[:columns], offsets[:columns]))
        for start in range(columns, len(codebook), columns):
            part = slice(start, start + columns)
            score, index = _first_largest(scores(tile, codebook[part], offsets[part]))
            better = score > best  # and not if it is equal: the first of equals stays
            best, where = torch.where(better, score, best), torch.where(better, index + start, where)
        nearest.append(where)
    return torch.cat(nearest)


def _product_scores(vectors: Tensor, code_vectors: Tensor, offsets: Tensor) -> Tensor:
    """Compute a tile of scores on any device, in full float32 even if the user allows TF32."""
    with _full_float32(vectors.device):
        return torch.addmm(offsets, vectors, code_vectors.T)


def _convolution_scores(vectors: Tensor, code_vectors: Tensor, offsets: Tensor) -> Tensor:
    """Compute a tile of scores on the CPU as a 1x1 convolution.

    This makes torch use oneDNN's float32 product, which takes half the time of torch's own product on
    processors with AVX-512.
    """
    count, dim = vectors.shape
    images = _IMAGES if count % _IMAGES == 0 else 1
    maps = vectors.view(images, count // images, 1, dim).movedim(-1, 1)  # channels last: a view, no copy
    scores = F.conv2d(maps, code_vectors[:, :, None, None], offsets)
    return scores.movedim(1, -1).reshape(count, len(code_vectors))


def _in_blocks(codebook: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Fill a codebook up to whole blocks with codes whose score is minus infinity."""
    missing = -len(codebook) % _BLOCK
    return F.pad(codebook, (0, 0, 0, missing)), F.pad(offsets, (0, missing), value=-math.inf)


def _first_largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest score of each row [n, k] and the first position that has it."""
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


def _tile(device: torch.device) -> int:
    """Return the most scores of a tile, in proportion to the device's memory: 2^24 from 64 GiB up."""
    if device.type != "cuda":
        return _TILE
    return min(_TILE, torch.cuda.get_device_properties(device).total_memory // 1024 // 4)
