"""Changes a model as little as possible so that its capacity matches a reference.

The codebook sizes are solved first. They determine the bits, and they contribute to parameters and
multiply-adds. The widths do not affect the bits. They are solved next, so that the totals match with these
codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, fsum, hypot, inf, log, log2
from typing import Literal

from flatvq.capacities import CAPACITIES
from flatvq.model.capacity import Capacity, capacity_of
from flatvq.recipe import Capacity as CapacityName
from flatvq.recipe import ModelRecipe, parse, set_key
from flatvq.recipe.section import LONGEST_SIDE

__all__ = ["Matched", "match", "residuals"]

# A codebook of one code carries no information, and one of more codes than this fits no machine. If the bits
# need a size outside of this range, the residual shows the remaining difference.
_SMALLEST_CODEBOOK, _LARGEST_CODEBOOK = 2, 2**24

Residuals = dict[CapacityName, float]


@dataclass(frozen=True)
class Matched:
    """A matched model."""

    model: ModelRecipe
    """The model after the changes."""
    changes: dict[str, tuple[int, int]]
    """Old and new value by dotted key, such as `levels.0.codebook_size`; empty if nothing changed."""
    residuals: Residuals
    """The remaining relative difference from the reference, for every capacity."""


def residuals(capacity: Capacity, reference: Capacity) -> Residuals:
    """Compare two capacities.

    Returns:
        Each capacity of the first as a relative difference from the reference: 0.01 is one percent more.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> small, large = (ModelRecipe(levels=(LevelRecipe(codebook_size=k),)) for k in (256, 1024))
        >>> differences = residuals(capacity_of(small, 64), capacity_of(large, 64))
        >>> {name: round(value, 3) for name, value in differences.items()}
        {'bits': -0.2, 'parameters': -0.055, 'multiply_adds': -0.054, 'network_parameters': 0.0, \
'network_multiply_adds': 0.0}
    """
    return {
        name: _relative(capacity.value(kind.attribute), reference.value(kind.attribute))
        for name, kind in CAPACITIES.items()
    }


def match(
    model: ModelRecipe,
    reference: Capacity,
    size: int | tuple[int, int],
    capacities: Sequence[CapacityName],
    tolerance: float,
) -> Matched:
    """Match a model to a reference.

    A capacity within the tolerance is not changed. The others are changed as follows:

    - Bits: by `codebook_size`, as close to equality as integers allow. All sizes change by one factor, and
      the size that is rounded last compensates for the rounding of the others. Levels without a codebook do
      not change.
    - Parameters and multiply-adds: by the smallest change of `width` and `residual_width`, measured as
      ratios. If both capacities are matched, the larger of the two differences counts. If no widths reach the
      tolerance, the tolerance counts from the smallest difference that can be reached.

    Args:
        model: the model to change.
        reference: the capacity to match, for the same image size.
        size: side of a square image, or (height, width), in pixels.
        capacities: the capacities to match, by their keys in `flatvq.CAPACITIES`.
        tolerance: the largest relative difference that counts as matched. It is not always reachable; see
            the residuals.

    Returns:
        The changed model, the changes, and the remaining differences.

    Raises:
        FlatvqError: if a side is not a multiple of the total downsampling of the model.

    Example:
        The recipe published by Reyhanian and Wiskott has two grids of 1024 codes each. One grid with the same
        bits:

        >>> from flatvq.recipe import LevelRecipe
        >>> two = ModelRecipe(levels=(LevelRecipe(downsample=4), LevelRecipe(downsample=2)))
        >>> match(ModelRecipe(), capacity_of(two, 256), 256, ["bits"], tolerance=0.01).changes
        {'levels.0.codebook_size': (1024, 5793)}
    """
    changes: dict[str, tuple[int, int]] = {}

    def to_solve(by: Literal["codebooks", "widths"]) -> list[CapacityName]:
        """Return the capacities that a kind of change solves, if one of them is not within the tolerance."""
        left = residuals(capacity_of(_changed(model, changes), size), reference)
        names = [name for name in capacities if CAPACITIES[name].solved_by == by]
        return names if any(abs(left[name]) > tolerance for name in names) else []

    if to_solve("codebooks"):
        changes |= _codebook_changes(model, reference, size)
    if names := to_solve("widths"):
        given = _changed(model, changes)
        costs = tuple(_Cost(given, size, name) for name in names)
        goals = tuple(int(reference.value(CAPACITIES[name].attribute)) for name in names)
        changes |= _width_changes(given, _Target(costs, goals), tolerance)
    changed = _changed(model, changes)
    return Matched(changed, changes, residuals(capacity_of(changed, size), reference))


def _codebook_changes(
    model: ModelRecipe, reference: Capacity, size: int | tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """Scale the codebooks to the bits of the reference."""
    capacity = capacity_of(model, size)
    area = [level.grid[0] * level.grid[1] * level.indices_per_cell for level in capacity.levels]
    levels = [n for n, level in enumerate(model.levels) if level.has_codebook]
    # One more code changes the bits by about cells / K. The level where this is smallest comes last, so that
    # it can compensate for the rounding of the others.
    levels.sort(key=lambda n: area[n] / model.levels[n].codebook_size, reverse=True)
    old = [model.levels[n].codebook_size for n in levels]
    cells = [area[n] for n in levels]
    missing = reference.bits_per_image - capacity.bits_per_image
    bits = _bits(old, cells) + missing
    new = min(_scaled(old, cells, bits), key=lambda sizes: abs(_bits(sizes, cells) - bits))
    return {
        f"levels.{n}.codebook_size": (before, after)
        for n, before, after in zip(levels, old, new, strict=True)
        if before != after
    }


def _scaled(sizes: list[int], cells: list[int], bits: float) -> Iterator[list[int]]:
    """Yield codebook sizes near the common factor at which they carry the bits.

    The first size is rounded up and down. For each of the two, the others are scaled to the remaining bits.
    """
    if not sizes:
        yield []
        return
    octaves = (bits - _bits(sizes, cells)) / sum(cells)
    limits = log2(_SMALLEST_CODEBOOK), log2(_LARGEST_CODEBOOK)
    exact = 2 ** min(max(log2(sizes[0]) + octaves, limits[0]), limits[1])
    for size in sorted({floor(exact), ceil(exact)}):
        for others in _scaled(sizes[1:], cells[1:], bits - cells[0] * log2(size)):
            yield [size, *others]


def _bits(sizes: list[int], cells: list[int]) -> float:
    return fsum(number * log2(size) for size, number in zip(sizes, cells, strict=True))


class _Cost:
    """A capacity as a function of the widths: linear in the residual width, quadratic in the width.

    The number of channels of each layer is the width, half of it, the residual width, or a constant, and
    codebooks and searches do not depend on the widths. So the capacities of five small models determine the
    capacity for any widths, in integers.

    Args:
        model: the model whose widths change, with its final codebook sizes.
        size: the size of the image.
        name: a capacity that the widths solve, such as `parameters`.
    """

    def __init__(self, model: ModelRecipe, size: int | tuple[int, int], name: CapacityName) -> None:
        def at(width: int, residual_width: int) -> int:
            widths = {"width": width, "residual_width": residual_width}
            capacity = capacity_of(model.model_copy(update=widths), size)
            return int(capacity.value(CAPACITIES[name].attribute))

        one, two, three = (at(width, 1) for width in (2, 4, 6))
        self.base, self.slope, self.bend = one, two - one, three - 2 * two + one
        self.each = at(2, 2) - one
        self.each_slope = at(4, 2) - two - self.each

    def __call__(self, width: int, residual_width: int) -> int:
        """Return the capacity for an even width and a residual width."""
        steps = width // 2 - 1
        narrowest = self.base + steps * self.slope + steps * (steps - 1) // 2 * self.bend
        return narrowest + (residual_width - 1) * (self.each + steps * self.each_slope)


@dataclass(frozen=True)
class _Widths:
    """The widths, which can change to match parameters and multiply-adds."""

    width: int
    residual_width: int


@dataclass(frozen=True)
class _Target:
    """The capacities to match, and their values in the reference."""

    costs: tuple[_Cost, ...]
    goals: tuple[int, ...]

    def off(self, at: _Widths) -> list[float]:
        """Return the relative difference of each capacity to match. All increase with either width."""
        spent = (cost(at.width, at.residual_width) for cost in self.costs)
        return [_relative(value, goal) for value, goal in zip(spent, self.goals, strict=True)]

    def worst(self, at: _Widths) -> float:
        """Return the largest absolute relative difference."""
        return max(abs(difference) for difference in self.off(at))


def _width_changes(model: ModelRecipe, target: _Target, tolerance: float) -> dict[str, tuple[int, int]]:
    """Choose the smallest change that reaches the tolerance, counted from the closest match if need be."""
    own = _Widths(model.width, model.residual_width)

    def change(other: _Widths) -> float:
        return hypot(log(other.width / own.width), log(other.residual_width / own.residual_width))

    candidates = [_best_at(own, width, target) for width in _even_widths(target)]
    nearest = min(target.worst(candidate) for candidate in candidates)
    allowed = tolerance if nearest <= tolerance else nearest + tolerance
    best = min((candidate for candidate in candidates if target.worst(candidate) <= allowed), key=change)
    return {
        name: (getattr(own, name), getattr(best, name))
        for name in ("width", "residual_width")
        if getattr(own, name) != getattr(best, name)
    }


def _best_at(own: _Widths, width: int, target: _Target) -> _Widths:
    """Choose the best residual width for a width.

    All capacities are linear in the residual width. A single capacity matches where its difference is zero.
    For two capacities, the larger difference is smallest where the two are equal and opposite. Either way,
    the sum of the differences is zero at this point, and the best integer is next to it. The residual width
    is limited to the width, or to the ratio in the original model if that is larger: blocks that are wider
    inside would be another design.
    """
    first, second = (sum(target.off(_Widths(width, residual_width))) for residual_width in (1, 2))
    if first == second:  # there are no residual blocks
        return _Widths(width, own.residual_width)
    root = 1 - first / (second - first)
    widest = min(max(width, width * own.residual_width // own.width), LONGEST_SIDE)
    nearest = {min(max(1, round_(root)), widest) for round_ in (floor, ceil)}
    return min((_Widths(width, candidate) for candidate in sorted(nearest)), key=target.worst)


def _even_widths(target: _Target) -> Iterator[int]:
    """Yield even widths, up to the first that exceeds every target with the narrowest residual blocks."""
    for width in range(2, LONGEST_SIDE + 1, 2):
        yield width
        if min(target.off(_Widths(width, 1))) > 0:
            return


def _changed(model: ModelRecipe, changes: dict[str, tuple[int, int]]) -> ModelRecipe:
    tree = model.model_dump()
    for key, (_, new) in changes.items():
        tree = set_key(tree, key, new)
    return parse(ModelRecipe, tree)


def _relative(value: int | float, reference: int | float) -> float:
    if value == reference:
        return 0.0
    return (value - reference) / reference if reference else inf
