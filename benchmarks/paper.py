"""What ImageNet-1k costs on paper: counted multiply-adds and bytes over a GPU's published speed."""

from __future__ import annotations

from flatvq.model.capacity import capacity_of
from flatvq.model.layout import layout_of
from flatvq.recipe import LevelRecipe, ModelRecipe

__all__ = ["activation_elements", "imagenet"]

# ILSVRC 2012's training images.
IMAGES = 1_281_167
SIDE = 256
# NVIDIA's data sheet of the H100 SXM: dense bfloat16 and plain float32 operations a second, bytes a second.
BF16, FP32, BANDWIDTH = 989e12, 67e12, 3.35e12
# Share of the peak that convolutions and products are assumed to reach.
REACHED = 0.4
# Each activation: written and read in the forward pass, read again and its gradient written and read in the
# backward pass; rectifiers and casts about double that where nothing is fused. Two bytes each.
PASSES, BYTES = 10, 2


def imagenet(decode_seconds: float | None) -> list[str]:
    """Show seconds an epoch of each stage for the reference's models, matched in bits.

    Args:
        decode_seconds: what one core takes to decode and scale a photograph; None if it was not measured.
    """
    rows = [
        "| model | GPUs | convolutions | search, float32 | activations' traffic "
        "| JPEG decoding, 16 cores a GPU | binds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, model in _models().items():
        for gpus in (1, 8):
            stages = _stages(model, gpus, decode_seconds)
            binding = max(stages, key=lambda stage: stages[stage])
            cells = " | ".join(f"{seconds:.0f} s" for seconds in stages.values())
            if "decoding" not in stages:
                cells += " | not measured"
            rows.append(f"| {name} | {gpus} | {cells} | {binding} |")
    return rows


def _models() -> dict[str, ModelRecipe]:
    bottom, top = LevelRecipe(downsample=4, codebook_size=1024), LevelRecipe(downsample=2, codebook_size=1024)
    return {
        "parallel two-level, K 1024 + 1024": ModelRecipe(levels=(bottom, top)),
        "single-level, K 5793": ModelRecipe(levels=(LevelRecipe(downsample=4, codebook_size=5793),)),
    }


def _stages(model: ModelRecipe, gpus: int, decode_seconds: float | None) -> dict[str, float]:
    """Give seconds an epoch of each stage, if it were alone."""
    capacity = capacity_of(model, SIDE)
    images = IMAGES / gpus
    stages = {
        # Two operations a multiply-add; the backward pass takes twice the forward pass.
        "convolutions": images * 3 * 2 * capacity.network_multiply_adds / (REACHED * BF16),
        "search": images * 2 * capacity.search_multiply_adds / (REACHED * FP32),
        "traffic": images * activation_elements(model, SIDE) * PASSES * BYTES / BANDWIDTH,
    }
    if decode_seconds is not None:
        stages["decoding"] = images * decode_seconds / 16
    return stages


def activation_elements(model: ModelRecipe, side: int) -> int:
    """Count the elements of all convolutions' outputs for one square image.

    Example:
        >>> one = ModelRecipe(width=2, residual_blocks=0, levels=(LevelRecipe(downsample=2, code_dim=4),))
        >>> activation_elements(one, 4)  # 2x2 grids of 1, 2 (encoder), 4 and 2 channels, a 4x4 image of 3
        84
    """
    cells = [side * side]
    for level in model.levels:
        cells.append(cells[-1] // level.downsample**2)
    layout = layout_of(model)
    parts = [*zip(layout.encoders, cells, strict=False), *zip(layout.projections, cells[1:], strict=True)]
    for number, decoder in enumerate(layout.decoders):
        parts.append((decoder.trunk, cells[number + 1]))
        parts += zip(decoder.upsamplers, cells[number + 2 :], strict=True)
    total = 0
    for layers, start in parts:
        grid = start
        for conv in (conv for layer in layers for conv in layer.convs):
            grid = conv.cells_after(grid)
            total += grid * conv.outputs
    return total
