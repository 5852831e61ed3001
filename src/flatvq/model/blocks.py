"""The parts of the autoencoder as lists of layers: encoder, projection, decoder and upsampler.

The description of a part is data. From it, PyTorch modules are built (`build`), and parameters and
multiply-adds are counted (`parameters`, `multiply_adds`). So a model always agrees with its stated capacity,
and counting allocates no weights.

The layout follows the VQ-VAE's published code (van den Oord et al. 2017, arXiv 1711.00937, section 4.1:
strided 4x4 convolutions, then residual blocks of 3x3, ReLU, 1x1), generalized to strides of any power of two.

Axes: B batch, C channels, H W rows and columns of the input grid of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from flatvq.model.transposed import TransposedConv2d
from flatvq.recipe import ModelRecipe

__all__ = [
    "Conv",
    "Layer",
    "Relu",
    "Residual",
    "ResidualBlock",
    "build",
    "decoder",
    "encoder",
    "multiply_adds",
    "parameters",
    "projection",
    "upsampler",
]


@dataclass(frozen=True)
class Conv:
    """A convolution with bias. `stride` 2 halves the sides of the grid, or doubles them if `transposed`.

    Example:
        >>> Conv(3, 64, kernel=4, stride=2).build()
        Conv2d(3, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    transposed: bool = False

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The convolution itself."""
        return (self,)

    @property
    def weights(self) -> int:
        """The number of weights, without biases."""
        return self.inputs * self.outputs * self.kernel**2

    def cells_after(self, cells: int) -> int:
        """Return the number of cells (H x W) of the output grid.

        Args:
            cells: the number of cells of the input grid.
        """
        return cells * self.stride**2 if self.transposed else cells // self.stride**2

    def build(self) -> nn.Module:
        """Make the PyTorch module. Its padding keeps the size of the grid, except for the stride."""
        kind = TransposedConv2d if self.transposed else nn.Conv2d
        padding = (self.kernel - 1) // 2
        return kind(self.inputs, self.outputs, self.kernel, stride=self.stride, padding=padding)


@dataclass(frozen=True)
class Relu:
    """A rectifier. It overwrites its input, which no other layer of a part reads."""

    @property
    def convs(self) -> tuple[Conv, ...]:
        """No convolution."""
        return ()

    def build(self) -> nn.Module:
        """Make the PyTorch module."""
        return nn.ReLU(inplace=True)


@dataclass(frozen=True)
class Residual:
    """A residual block with `width` channels outside and `hidden` channels inside."""

    width: int
    hidden: int

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The first convolution, 3x3, and the second, 1x1."""
        return Conv(self.width, self.hidden, kernel=3), Conv(self.hidden, self.width, kernel=1)

    def build(self) -> nn.Module:
        """Make the PyTorch module."""
        return ResidualBlock(*(conv.build() for conv in self.convs))


Layer: TypeAlias = Conv | Relu | Residual
"""A layer of a part. It builds its module, and lists its `convs`, which hold all of its weights."""


class ResidualBlock(nn.Module):
    """`x + outer(relu(inner(relu(x))))`."""

    def __init__(self, inner: nn.Module, outer: nn.Module) -> None:
        super().__init__()
        # The first rectifier must not overwrite x, which the sum still needs.
        self.body = nn.Sequential(nn.ReLU(), inner, nn.ReLU(inplace=True), outer)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return the input plus the output of the body."""
        total: Tensor = x + self.body(x)
        return total


def encoder(inputs: int, stride: int, model: ModelRecipe) -> tuple[Layer, ...]:
    """Describe an encoder, from `inputs` channels to `model.width` channels on a `stride` times smaller grid.

    Args:
        inputs: the number of input channels.
        stride: a power of two, at least 2.
        model: the width, residual width and number of residual blocks.

    Example:
        >>> model = ModelRecipe(width=128, residual_width=64, residual_blocks=2)
        >>> parameters(encoder(3, 4, model))
        446144
    """
    half, width = model.width // 2, model.width
    channels = [inputs, half, *[width] * (_halvings(stride) - 1)]
    down = [layer for a, b in pairwise(channels) for layer in (Conv(a, b, kernel=4, stride=2), Relu())]
    return *down, Conv(channels[-1], width, kernel=3), *_blocks(model)


def projection(inputs: int, code_dim: int) -> tuple[Layer, ...]:
    """Describe a 1x1 convolution from features to latents of dimension `code_dim`."""
    return (Conv(inputs, code_dim, kernel=1),)


def decoder(inputs: int, outputs: int, stride: int, model: ModelRecipe) -> tuple[Layer, ...]:
    """Describe a decoder: from `inputs` channels to `outputs` channels on a grid `stride` times larger.

    It mirrors the encoder.

    Args:
        inputs: the number of input channels.
        outputs: the number of output channels.
        stride: a power of two, at least 2.
        model: the width, residual width and number of residual blocks.

    Example:
        >>> build(decoder(64, 3, 4, ModelRecipe(residual_blocks=0)))
        Sequential(
          (0): Conv2d(64, 128, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
          (1): ReLU(inplace=True)
          (2): TransposedConv2d(128, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
          (3): ReLU(inplace=True)
          (4): TransposedConv2d(64, 3, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
        )
    """
    doublings = _halvings(stride)
    # From the finest grid on: half the width on the second finest grid, the full width on all coarser grids.
    fine = [outputs, model.width // 2, *[model.width] * doublings][:doublings]
    channels = [*fine, model.width]
    up = [_doubling(a, b) for a, b in pairwise(reversed(channels))]
    rectified = [layer for conv in up[1:] for layer in (Relu(), conv)]
    return Conv(inputs, model.width, kernel=3), *_blocks(model), up[0], *rectified


def upsampler(channels: int, factor: int, outputs: int | None = None) -> tuple[Layer, ...]:
    """Describe an upsampler of code vectors to a grid `factor` times larger, by transposed convolutions.

    Args:
        channels: the number of input channels.
        factor: a power of two, at least 2.
        outputs: the number of output channels; `channels` if None.
    """
    doublings = _halvings(factor)
    last = _doubling(channels, channels if outputs is None else outputs)
    return *[_doubling(channels, channels)] * (doublings - 1), last


def build(layers: Sequence[Layer]) -> nn.Sequential:
    """Make the PyTorch module of a part."""
    return nn.Sequential(*(layer.build() for layer in layers))


def parameters(layers: Sequence[Layer]) -> int:
    """Count the weights and biases of a part."""
    return sum(conv.weights + conv.outputs for layer in layers for conv in layer.convs)


def multiply_adds(layers: Sequence[Layer], cells: int) -> int:
    """Count the multiply-adds of a part's convolutions for one image.

    Args:
        layers: the part.
        cells: the number of cells, H x W, of the input grid.

    Example:
        >>> multiply_adds([Conv(3, 64, kernel=4, stride=2)], cells=256 * 256) == 3 * 64 * 4 * 4 * 128 * 128
        True
    """
    total = 0
    for conv in (conv for layer in layers for conv in layer.convs):
        after = conv.cells_after(cells)
        # Each weight is used once per cell of the coarser of the two grids. Padding is counted too.
        total += conv.weights * min(cells, after)
        cells = after
    return total


def _halvings(stride: int) -> int:
    return stride.bit_length() - 1


def _blocks(model: ModelRecipe) -> tuple[Layer, ...]:
    return *[Residual(model.width, model.residual_width)] * model.residual_blocks, Relu()


def _doubling(inputs: int, outputs: int) -> Conv:
    return Conv(inputs, outputs, kernel=4, stride=2, transposed=True)
