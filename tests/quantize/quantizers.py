"""Every quantizer, small: what test_guarantees.py and programs.py try in turn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flatvq.quantize import (
    DeadCodeReplacement,
    Ema,
    FiniteScalarQuantizer,
    Gradient,
    KMeansInit,
    LookupFreeQuantizer,
    Quantizer,
    ResidualQuantizer,
    VectorQuantizer,
    rotation_trick,
)

INIT = KMeansInit(vectors_per_code=2)
OFTEN = DeadCodeReplacement(every=2, fraction=0.8)

BUILDERS = {
    "ema": lambda: VectorQuantizer(16, 4, init=INIT, replacement=OFTEN),
    "ema, cosine": lambda: VectorQuantizer(16, 4, init=INIT, metric="cosine", replacement=OFTEN),
    "ema, projected": lambda: VectorQuantizer(16, 4, init=INIT, input_dim=6, estimator=rotation_trick),
    "gradient": lambda: VectorQuantizer(16, 4, init=INIT, update=Gradient(), replacement=OFTEN),
    "gradient, cosine, projected": lambda: VectorQuantizer(
        16, 4, init=INIT, update=Gradient(), metric="cosine", input_dim=6
    ),
    "fast ema": lambda: VectorQuantizer(16, 4, init=INIT, update=Ema(0.5)),
    "scalar": lambda: FiniteScalarQuantizer([8, 5, 2]),
    "lookup-free": lambda: LookupFreeQuantizer(5),
    "residual": lambda: ResidualQuantizer(16, 4, 3, init=INIT, replacement=OFTEN),
    "residual, gradient": lambda: ResidualQuantizer(16, 4, 2, init=INIT, update=Gradient()),
}


def latents(width: int, *shape: int, purpose: int = 0) -> Tensor:
    """Draw [shape[0], width, *shape[1:]] from N(0, 1)."""
    random = torch.Generator().manual_seed(purpose)
    return torch.randn(shape[0], width, *shape[1:], generator=random, dtype=torch.float32)


def trained(name: str) -> Quantizer:
    """Build a quantizer and train it for four steps, past its init."""
    torch.manual_seed(0)
    quantizer = BUILDERS[name]()
    for step in range(4):
        quantizer(latents(quantizer.input_dim, 8, 3, 3, purpose=step))
    return quantizer


class Encode(nn.Module):
    """Latents to indices and what stands for them."""

    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, inputs):
        out = self.quantizer(inputs)
        return out.indices, out.quantized, self.quantizer.decode_indices(out.indices)
