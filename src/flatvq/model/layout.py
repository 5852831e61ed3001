"""The parts of a model and their grids, for any number of levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from flatvq.errors import FlatvqError
from flatvq.model import blocks
from flatvq.recipe import HIERARCHIES, ModelRecipe

__all__ = [
    "DecoderLayout",
    "Layout",
    "conditioned",
    "grids_of",
    "layout_of",
    "parallel",
    "residual",
    "with_decoders",
]


@dataclass(frozen=True)
class DecoderLayout:
    """The parts that decode the code vectors of a level and of all levels above it to the grid below."""

    upsamplers: tuple[tuple[blocks.Layer, ...], ...]
    """For each level above, the layers from its grid to the grid of this level; if `residual`, to the grid of
    the next lower level."""
    trunk: tuple[blocks.Layer, ...]
    """The layers from the grid of this level to the grid below. For the bottom level, that is the image."""
    residual: bool = False
    """Whether the upsampled sum of the levels above is subtracted from the latents of a level before they are
    quantized. The trunk then takes the sum of all levels. Otherwise it takes the levels concatenated. Only
    the decoder of the bottom can be residual."""


@dataclass(frozen=True)
class Layout:
    """The parts of a model, bottom level first."""

    encoders: tuple[tuple[blocks.Layer, ...], ...]
    """For each level, the layers from the features of the level below (at the bottom, the image) to its
    features."""
    projections: tuple[tuple[blocks.Layer, ...], ...]
    """For each level, the layers from its features (if conditioned, with the decoded levels above) to its
    latents."""
    decoders: tuple[DecoderLayout, ...]
    """The decoder of the image. A conditioned hierarchy has one more for each upper level."""


def layout_of(model: ModelRecipe) -> Layout:
    """Describe the parts of a model.

    Args:
        model: the recipe.

    Returns:
        The parts, bottom level first.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> levels = (LevelRecipe(downsample=4), LevelRecipe(downsample=2))
        >>> len(layout_of(ModelRecipe(levels=levels, hierarchy="parallel")).decoders)
        1
        >>> len(layout_of(ModelRecipe(levels=levels, hierarchy="conditioned")).decoders)
        2
    """
    layout: Layout = HIERARCHIES[model.hierarchy](model)
    return layout


def parallel(model: ModelRecipe) -> Layout:
    """Describe a hierarchy whose levels are quantized independently of each other."""
    return with_decoders(model, 1)


def conditioned(model: ModelRecipe) -> Layout:
    """Describe a hierarchy whose levels are quantized given the decoded levels above them."""
    return with_decoders(model, len(model.levels))


def residual(model: ModelRecipe) -> Layout:
    """Describe a hierarchy in which each level quantizes the residual of the levels above it.

    It has the encoders of a parallel hierarchy.
    """
    layout = parallel(model)
    dims = [level.code_dim for level in model.levels]
    upsamplers = (
        blocks.upsampler(above, level.downsample, below)
        for (below, above), level in zip(pairwise(dims), model.levels[1:], strict=True)
    )
    bottom = model.levels[0]
    sized = model.model_copy(update={"width": bottom.width or model.width})
    trunk = blocks.decoder(dims[0], model.channels, bottom.downsample, sized)
    return replace(layout, decoders=(DecoderLayout(tuple(upsamplers), trunk, residual=True),))


def with_decoders(model: ModelRecipe, count: int) -> Layout:
    """Describe a hierarchy with decoders for the lowest levels.

    If a level has a decoder, the level below it is quantized given the decoded levels.

    Args:
        model: the recipe.
        count: the number of decoders: at least 1, for the image, and at most the number of levels.
    """
    strides = [level.downsample for level in model.levels]
    dims = [level.code_dim for level in model.levels]
    widths = [level.width or model.width for level in model.levels]
    sized = [model.model_copy(update={"width": width}) for width in widths]
    inputs = [model.channels, *widths[:-1]]
    outputs = [model.channels, *dims[:-1]]  # channels below
    decoded = range(count)
    projection_inputs = [
        widths[level] + (dim if level + 1 in decoded else 0) for level, dim in enumerate(dims)
    ]
    return Layout(
        encoders=tuple(blocks.encoder(*ends) for ends in zip(inputs, strides, sized, strict=True)),
        projections=tuple(blocks.projection(*ends) for ends in zip(projection_inputs, dims, strict=True)),
        decoders=tuple(
            DecoderLayout(
                upsamplers=tuple(
                    blocks.upsampler(dims[above], prod(strides[level + 1 : above + 1]))
                    for above in range(level + 1, len(dims))
                ),
                trunk=blocks.decoder(sum(dims[level:]), outputs[level], strides[level], sized[level]),
            )
            for level in decoded
        ),
    )


def grids_of(model: ModelRecipe, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the rows and columns of the grid of each level, bottom first.

    Args:
        model: the recipe.
        size: (height, width) of the image in pixels.

    Raises:
        FlatvqError: if a side is not a positive multiple of the total downsampling of the model.

    Example:
        >>> grids_of(ModelRecipe(), (64, 96))
        ((16, 24),)
        >>> grids_of(ModelRecipe(), (64, 90))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: images of 64x90 pixels do not fit codes of 4x4 pixels: crop or resize \
them to multiples of 4, such as 64x88
    """
    height, width = size
    factor = prod([level.downsample for level in model.levels])
    if height % factor or width % factor or min(size) < factor:
        fitting = "x".join(str(max(side // factor, 1) * factor) for side in size)
        raise FlatvqError(
            f"images of {height}x{width} pixels do not fit codes of {factor}x{factor} pixels",
            f"crop or resize them to multiples of {factor}, such as {fitting}",
        )
    steps = [prod([level.downsample for level in model.levels[: n + 1]]) for n in range(len(model.levels))]
    return tuple((height // step, width // step) for step in steps)
