"""The capacity of a model: bits, parameters and multiply-adds, counted from its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

from flatvq.capacities import CAPACITIES
from flatvq.model.blocks import Layer, multiply_adds, parameters
from flatvq.model.layout import grids_of, layout_of
from flatvq.recipe import ModelRecipe
from flatvq.records import codebook_sizes

__all__ = ["Capacity", "LevelCapacity", "capacity_of"]


@dataclass(frozen=True)
class LevelCapacity:
    """The grid and the codebook of one level."""

    grid: tuple[int, int]
    """Rows and columns."""
    codebook_size: int
    """K."""
    code_dim: int
    """D."""
    indices_per_cell: int = 1
    """Q: the number of stages of a residual quantizer."""

    @property
    def codebook_sizes(self) -> str:
        """The codebook sizes for display, such as `512`, or `4 × 512` for four residual stages."""
        return codebook_sizes(self.codebook_size, self.indices_per_cell)


@dataclass(frozen=True)
class Capacity:
    """The capacity of a model for an image of a given size."""

    bits_per_image: float
    """Nominal bits: the sum over levels of h x w x Q x log2 K."""
    bits_per_pixel: float
    """`bits_per_image` divided by H x W."""
    parameters: int
    """All learned numbers: `network_parameters` plus `codebook_parameters`."""
    network_parameters: int
    """Number of weights and biases, without codebooks."""
    codebook_parameters: int
    """The sum over codebooks of K x D. Finite scalar and lookup-free quantization have no codebook."""
    multiply_adds: int
    """Multiply-adds to encode and decode one image: `network_multiply_adds` plus `search_multiply_adds`."""
    network_multiply_adds: int
    """Multiply-adds of the convolutions in one forward pass (encode and decode) of one image."""
    search_multiply_adds: int
    """Multiply-adds of the nearest-code searches of one image: the sum over codebooks of h x w x K x D."""
    levels: tuple[LevelCapacity, ...]
    """Bottom first."""
    others: dict[str, float] = field(default_factory=dict)
    """The capacities that other packages compute, by attribute."""

    def value(self, attribute: str) -> int | float:
        """Return a capacity.

        Args:
            attribute: the attribute of its `CapacityKind`, such as `parameters`.
        """
        value: int | float = self.others[attribute] if attribute in self.others else getattr(self, attribute)
        return value


def capacity_of(model: ModelRecipe, size: int | tuple[int, int]) -> Capacity:
    """Count the capacity of a model exactly, without building it.

    Args:
        model: the recipe.
        size: side of a square image, or (height, width), in pixels.

    Returns:
        The capacity.

    Raises:
        FlatvqError: if a side is not a multiple of the model's total downsampling.

    Example:
        The single-level model of the recipe published by Reyhanian and Wiskott:

        >>> from flatvq.recipe import LevelRecipe
        >>> capacity = capacity_of(ModelRecipe(levels=(LevelRecipe(codebook_size=1024),)), 256)
        >>> capacity.network_parameters, capacity.network_multiply_adds, capacity.bits_per_image
        (826691, 3456106496, 40960.0)

        The totals include its 1024 codes of 64 dimensions, and the searches among them in 64 x 64 cells:

        >>> capacity.parameters, capacity.multiply_adds
        (892227, 3724541952)
    """
    height, width = (size, size) if isinstance(size, int) else size
    grids = grids_of(model, (height, width))
    parts = list(_parts(model, [height * width, *(rows * columns for rows, columns in grids)]))
    levels = list(zip(model.levels, (rows * columns for rows, columns in grids), strict=True))
    bits = sum(cells * level.bits_per_cell for level, cells in levels)
    network_parameters = sum(parameters(layers) for layers, _ in parts)
    codebook_parameters = sum(level.codebook_parameters for level in model.levels)
    network_multiply_adds = sum(multiply_adds(layers, number) for layers, number in parts)
    network_multiply_adds += sum(multiply_adds(layers, number) for layers, number in _repeated(model, grids))
    search_multiply_adds = sum(cells * level.codebook_parameters for level, cells in levels)
    capacity = Capacity(
        bits_per_image=bits,
        bits_per_pixel=bits / (height * width),
        parameters=network_parameters + codebook_parameters,
        network_parameters=network_parameters,
        codebook_parameters=codebook_parameters,
        multiply_adds=network_multiply_adds + search_multiply_adds,
        network_multiply_adds=network_multiply_adds,
        search_multiply_adds=search_multiply_adds,
        levels=tuple(
            LevelCapacity(grid, level.codebook_size, level.code_dim, prod(level.index_shape))
            for grid, level in zip(grids, model.levels, strict=True)
        ),
    )
    others = {kind.attribute: kind.compute(model, capacity) for kind in CAPACITIES.values() if kind.compute}
    return replace(capacity, others=others)


def _parts(model: ModelRecipe, cells: list[int]) -> Iterator[tuple[tuple[Layer, ...], int]]:
    """Yield each part with the number of cells (h x w) of its input grid.

    Args:
        model: the recipe.
        cells: the number of pixels of the image, then the number of cells of each level, bottom first.
    """
    layout = layout_of(model)
    yield from zip(layout.encoders, cells, strict=False)  # no encoder starts from the top grid
    yield from zip(layout.projections, cells[1:], strict=True)
    for level, decoder in enumerate(layout.decoders):
        yield decoder.trunk, cells[level + 1]
        yield from zip(decoder.upsamplers, cells[level + 2 :], strict=True)


def _repeated(
    model: ModelRecipe, grids: tuple[tuple[int, int], ...]
) -> Iterator[tuple[tuple[Layer, ...], int]]:
    """Yield the parts that run a second time, in the form of `_parts`.

    A residual hierarchy upsamples levels once to quantize the levels below, and once to decode.
    """
    for decoder in layout_of(model).decoders:
        if decoder.residual:
            yield from zip(decoder.upsamplers, (prod(grid) for grid in grids[1:]), strict=True)
