"""The checks. Each detects one fault of a codebook, and gives advice.

Axes: K codes, D code dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatvq.quantize import code_usage

__all__ = ["Diagnosis", "Finding", "examine_codebook", "examine_indices"]

# A codebook has collapsed below this share of its nominal bits in effect.
_COLLAPSED_SHARE = 0.3
# Share of dead codes above which they are reported as a fault.
_DEAD_SHARE = 0.05
# Two codes nearer than this share of the median distance to the nearest code are near-duplicates.
_NEAR = 0.02
_NEAR_SHARE = 0.01
# Copies of a code that hide each other: the median above is that between copies if most codes have some. So
# distances to the 2nd, 4th, ... nearest code are compared too. On a line, the m-th is about m times as far.
_NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64)
# A norm this many times above or below the median is an outlier. Healthy codebooks have a few; they are a
# finding if they are this share of the codes, or if one is off by the larger factor.
_OUTLIER, _FAR_OUTLIER = 10.0, 30.0
_OUTLIER_SHARE = 0.01
# Standard deviations of the number of codes that a smooth distribution puts into a small region.
_DEVIATIONS = 8.0
_FEW_INDICES_PER_CODE = 10
# Moving averages never become exactly zero: a code is dead below this share of uniform use.
_DEAD_USE = 0.01


@dataclass(frozen=True)
class Finding:
    """A fault."""

    kind: str
    """`non-finite`, `uninitialized`, `dead`, `collapsed`, `duplicates`, `near-duplicates`,
    `norms` or `drift`."""
    text: str
    """What is wrong, with numbers."""
    advice: str
    """What to do, in one line."""


@dataclass(frozen=True)
class Diagnosis:
    """The state of one codebook or of the indices of one level."""

    name: str
    numbers: dict[str, Any]
    """Statistics by name. Those that could not be computed are missing."""
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no fault was found."""
        return not self.findings


def examine_indices(name: str, counts: Tensor, size_is_known: bool = True) -> Diagnosis:
    """Examine the indices of one level.

    Args:
        name: the name of the level.
        counts: int64 [K]: how often each index occurs.
        size_is_known: False if K is only the largest index plus one.

    Returns:
        Usage, perplexity and effective bits, and the faults.

    Example:
        >>> examine_indices("level", torch.tensor([500, 500, 0, 0])).findings[0].text
        '2 of 4 codes are dead (50.0 %)'
    """
    indices = int(counts.sum())
    numbers, findings = _usage(counts, counts > 0, indices)
    if not size_is_known and len(counts) == 1 < indices:
        text = f"all {indices} indices are 0, and the size of the codebook is unknown"
        findings.append(Finding("collapsed", text, "State the size with --codebook-size, if it is 1."))
    return Diagnosis(name, numbers, tuple(findings))


def examine_codebook(
    name: str, code_vectors: Tensor, counts: Tensor | None = None, initialized: bool = True
) -> Diagnosis:
    """Examine the code vectors of one codebook, and their use if the checkpoint records it.

    Args:
        name: the name of the codebook.
        code_vectors: float32 [K, D].
        counts: float64 [K]: use of each code, such as a moving average; None if unknown.
        initialized: False if the code vectors are placeholders that initialization will replace.

    Returns:
        Norms, distances and usage, and the faults.

    Example:
        >>> codes = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> codes[5] = codes[6]
        >>> examine_codebook("codebook", codes).findings[0].text
        '2 of 64 codes equal another code'
    """
    size, dim = code_vectors.shape
    numbers: dict[str, Any] = {"codebook_size": size, "code_dim": dim}
    broken = int((~code_vectors.isfinite()).any(dim=1).sum())
    if broken:
        text = f"{broken} of {size} code vectors hold NaN or infinity"
        advice = "Load an earlier checkpoint, and lower the learning rate or clip gradients."
        return Diagnosis(name, numbers, (Finding("non-finite", text, advice),))
    if not initialized:
        text = "the code vectors have not been initialized from data yet"
        advice = "Examine a later checkpoint, or train until the codebook is initialized."
        return Diagnosis(name, numbers, (Finding("uninitialized", text, advice),))
    findings: list[Finding] = []
    use = None
    impossible = 0 if counts is None else int((~(counts.isfinite() & (counts >= 0))).sum())
    if impossible:
        text = f"the use of {impossible} of {size} codes is NaN, infinite or negative"
        advice = "Load an earlier checkpoint. Such counts spread to the code vectors with the next update."
        findings.append(Finding("non-finite", text, advice))
    elif counts is not None and float(counts.sum()) > 0:
        use = counts / counts.sum() * size
        own, faults = _usage(counts, use >= _DEAD_USE, None)
        numbers |= own
        findings += faults
    for examine in (_norms, _copies):
        own, faults = examine(code_vectors, use)
        numbers |= own
        findings += faults
    return Diagnosis(name, numbers, tuple(findings))


def _usage(counts: Tensor, alive: Tensor, indices: int | None) -> tuple[dict[str, Any], list[Finding]]:
    """Return usage statistics and faults. `indices` is the number of indices; None for moving averages."""
    size = len(counts)
    used = int(alive.sum())
    shares = counts.double() / counts.sum()
    entropy = abs(float((shares[shares > 0] * shares[shares > 0].log2()).sum()))  # not -0.0
    nominal = math.log2(size)
    numbers: dict[str, Any] = {
        "codebook_size": size,
        "used_codes": used,
        "usage": used / size,
        "perplexity": 2**entropy,
        "effective_bits": entropy,
        "nominal_bits": nominal,
    }
    if indices is not None:
        numbers |= {"indices": indices, "codes_for_99": code_usage(counts).codes_for_99}
    findings = []
    enough = indices is None or indices >= _FEW_INDICES_PER_CODE * size
    reachable = nominal if enough or indices is None else min(nominal, math.log2(indices))
    if size > 1 and entropy < _COLLAPSED_SHARE * reachable:
        text = f"{entropy:.2f} of {nominal:.2f} bits are in effect (perplexity {2**entropy:.1f} of {size})"
        advice = (
            "Initialize the codebook from data and replace dead codes. If the latents hardly differ, "
            "lower the commitment weight or start the level later."
        )
        findings.append(Finding("collapsed", text, advice))
    dead = size - used
    if enough and dead > _DEAD_SHARE * size:
        text = f"{dead} of {size} codes are dead ({100 * dead / size:.1f} %)"
        advice = "Replace dead codes during training (DeadCodeReplacement), or use fewer codes."
        findings.append(Finding("dead", text, advice))
    return numbers, findings


def _norms(codes: Tensor, use: Tensor | None) -> tuple[dict[str, Any], list[Finding]]:
    """Return the range of the norms of code vectors [K, D], and the fault of outliers."""
    size, dim = codes.shape
    norms = codes.double().norm(dim=1)
    median = float(norms.median())
    numbers: dict[str, Any] = {
        "norm_smallest": float(norms.min()),
        "norm_median": median,
        "norm_largest": float(norms.max()),
    }
    findings = []
    if median > 0:
        large, small = norms / median, median / norms
        outside = (large > _OUTLIER) | (small > _OUTLIER)
        number = int(outside.sum())
        least = _OUTLIER_SHARE * size + _most_by_chance(size, _OUTLIER**-dim)
        far = bool((large > _FAR_OUTLIER).any())
        far |= int((small > _FAR_OUTLIER).sum()) > _most_by_chance(size, _FAR_OUTLIER**-dim)
        if number >= least or far:
            unused = "" if use is None else f"; {int((outside & (use < _DEAD_USE)).sum())} of them are dead"
            text = f"the norm of {number} of {len(codes)} codes is {_OUTLIER:g} times off the median{unused}"
            advice = "Latents do not reach such codes: replace them, or initialize the codebook from data."
            findings.append(Finding("norms", text, advice))
    return numbers, findings


def _copies(codes: Tensor, use: Tensor | None) -> tuple[dict[str, Any], list[Finding]]:
    """Return the distances of code vectors [K, D] to the nearest other one, and the faults of copies."""
    nearest, typical_distances = _distances(codes)
    typical = float(np.median(nearest))
    numbers = {"distance_to_nearest_median": typical, "distance_to_nearest_smallest": float(nearest.min())}
    findings = []
    equal = int((nearest == 0).sum())
    if equal:
        text = f"{equal} of {len(codes)} codes equal another code"
        advice = "All but the first of equal codes are never chosen: replace them by encoder outputs."
        findings.append(Finding("duplicates", text, advice))
    reach = max(distance / order for order, distance in typical_distances.items())
    near = int(((nearest > 0) & (nearest < _NEAR * reach)).sum())
    # The share of codes of a smooth distribution that are this near to another one. Those of two dimensions
    # may lie on a circle, and those of three on a sphere.
    share = _NEAR ** max(1, codes.shape[1] - 1)
    if near > max(1, _NEAR_SHARE * len(codes)) + _most_by_chance(len(codes), share):
        typical_share = f"{_NEAR:.0%} of the typical distance"
        text = f"{near} of {len(codes)} codes are nearer to another code than {typical_share}"
        advice = "Jittered copies spend bits on nothing: use fewer codes, or replace them by encoder outputs."
        findings.append(Finding("near-duplicates", text, advice))
    return numbers, findings


def _most_by_chance(size: int, share: float) -> float:
    """Return how many of K codes may be in a region that holds a share of a smooth distribution.

    The share within a tenth of the median norm is about 10^-D: a fault in 8 dimensions, but normal in 1 or 2.
    """
    expected = size * share
    return expected + _DEVIATIONS * math.sqrt(expected)


def _distances(codes: Tensor) -> tuple[np.ndarray, dict[int, float]]:
    """Return distances to other codes.

    Returns:
        The distance of each code to the nearest other one, [K], which is 0 exactly for equal codes; and the
        median distance to the m-th nearest other one, for some m.
    """
    import faiss

    # FAISS subtracts squares, which lose digits far from zero. Equal codes stay equal.
    centred = codes.double() - codes.double().mean(dim=0)
    scale = float(centred.abs().max()) or 1.0
    rows = np.ascontiguousarray((centred / scale).numpy(), dtype=np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    orders = [order for order in _NEIGHBOURS if order < len(rows)]
    squares, neighbours = index.search(rows, orders[-1] + 1)
    # One of the first two is the code itself, or another one that equals it.
    own = np.arange(len(rows))
    other = np.where(neighbours[:, 0] == own, neighbours[:, 1], neighbours[:, 0])
    exact = codes.double().numpy()
    nearest: np.ndarray = np.linalg.norm(exact - exact[other], axis=1)
    farther = {
        order: scale * math.sqrt(max(0.0, float(np.median(squares[:, order])))) for order in orders[1:]
    }
    return nearest, {1: float(np.median(nearest)), **farther}


def drift(name: str, copies: list[Tensor]) -> Finding | None:
    """Compare the same codebook of several processes or files.

    Args:
        name: the name of the codebook.
        copies: float32 [K, D] of each file.

    Returns:
        The fault; None if all copies are equal bit for bit.
    """
    if len({tuple(copy.shape) for copy in copies}) > 1:
        shapes = " and ".join(str(tuple(copy.shape)) for copy in copies)
        return Finding("drift", f"{name} has the shapes {shapes}", "Compare checkpoints of one run.")
    unequal = [number for number, copy in enumerate(copies[1:], 1) if not torch.equal(copy, copies[0])]
    if not unequal:
        return None
    largest = max(float((copies[number] - copies[0]).abs().max()) for number in unequal)
    rows = max(int((copies[number] != copies[0]).any(dim=1).sum()) for number in unequal)
    text = f"{rows} of {len(copies[0])} codes differ between the files, by up to {largest:.3g}"
    advice = "Sum counts and vectors over all processes before each update, and share the random draws."
    return Finding("drift", text, advice)
