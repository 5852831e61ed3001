"""What the page computes with an arm: indices, and images and colours of codes from indices.

Axes: B batch, D code dim, h w rows and columns of a level's grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flatvq.export.graphs import Encode, dynamic_shapes, examples
from flatvq.export.programs import onnx_model
from flatvq.levels.codes import level_code_vectors
from flatvq.model import VQVAE
from flatvq.randomness import generator

__all__ = ["DecodeKept", "graphs"]

# Codes from which the colours are computed, at most.
_SAMPLE = 4096
# Codes beyond this many standard deviations along a principal axis get the same colour.
_SPREAD = 2.2


class DecodeKept(nn.Module):
    """Maps indices to images that use only chosen levels, and to the colours of the codes."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model
        for level in range(len(model.recipe.levels)):
            weight, bias = _principal_axes(model, level)
            self.register_buffer(f"axes_{level}", weight)
            self.register_buffer(f"centre_{level}", bias)

    def forward(self, indices: list[Tensor], kept: Tensor) -> tuple[Tensor, ...]:
        """Decode indices.

        Args:
            indices: int64 of each level, bottom first.
            kept: float32 [L], 1 for each level to keep. The code vectors of the others are replaced by their
                mean over the grid.

        Returns:
            Images float32 [B, C, H, W], clamped to [0, 1]; then float32 [B, 3, h, w] for each level, the red,
            green and blue of its codes. Similar code vectors have similar colours.
        """
        chosen, colours = [], []
        for level, grid in enumerate(indices):
            vectors = level_code_vectors(self.model, level, grid)
            mean = vectors.mean(dim=(2, 3), keepdim=True)
            chosen.append(torch.where(kept[level] > 0.5, vectors, mean))
            axes, centre = (getattr(self, f"{name}_{level}") for name in ("axes", "centre"))
            colours.append((nn.functional.conv2d(vectors, axes) + centre).clamp(0, 1))
        return (self.model.decode_code_vectors(chosen).clamp(0, 1), *colours)


def graphs(model: VQVAE) -> tuple[Any, Any]:
    """Return the encoder and the decoder of the page as ONNX models, with the weights inside.

    Args:
        model: the tokenizer, in eval mode.

    Raises:
        MissingExtraError: if onnx or onnxscript is not installed.
    """
    images, indices = examples(model)
    image_shapes, index_shapes = dynamic_shapes(model)
    levels = [f"level_{number}" for number in range(len(indices))]
    colours = [f"colours_{number}" for number in range(len(indices))]
    encoder = onnx_model(Encode(model), (images,), (image_shapes,), ["images"], levels)
    decoder = onnx_model(
        DecodeKept(model).eval(),
        (indices, torch.ones(len(indices))),
        (index_shapes, None),
        [*levels, "kept"],
        ["images", *colours],
    )
    return encoder, decoder


@torch.no_grad()
def _principal_axes(model: VQVAE, level: int) -> tuple[Tensor, Tensor]:
    """Return weights [3, D, 1, 1] and biases [1, 3, 1, 1] that map code vectors to colours in [0, 1].

    The axes are the principal components of the code vectors. The first becomes green, to which the eye is
    most sensitive.
    """
    shape, size = model.recipe.levels[level].index_shape, model.recipe.levels[level].codebook_size
    if shape or size > _SAMPLE:
        grid = torch.randint(size, (1, *shape, _SAMPLE, 1), generator=generator(0, "colours", level))
    else:
        grid = torch.arange(size).view(1, size, 1)
    vectors = level_code_vectors(model, level, grid)[0, :, :, 0].T.double()  # [N, D]
    centre = vectors.mean(dim=0)
    _, values, axes = torch.linalg.svd(vectors - centre, full_matrices=False)
    count = min(3, len(values))
    deviations = (values[:count] / max(1, len(vectors) - 1) ** 0.5).clamp(min=1e-12)
    scaled = torch.zeros(3, vectors.shape[1], dtype=torch.float64)
    order = torch.tensor([1, 0, 2])[:count]
    # The sign of an axis is arbitrary: its largest coordinate is made positive.
    signs = axes[:count].gather(1, axes[:count].abs().argmax(dim=1, keepdim=True)).sign()
    scaled[order] = signs * axes[:count] / (2 * _SPREAD * deviations[:, None])
    bias = 0.5 - scaled @ centre
    return scaled[:, :, None, None].float(), bias[None, :, None, None].float()
