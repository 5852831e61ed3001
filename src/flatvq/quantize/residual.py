"""Residual vector quantization: several codebooks in a row, each for the residual of the previous ones.

Axes: N flattened vectors, C input channels, D code dim, K codes, Q stages.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.quantize.checks import whole_number
from flatvq.quantize.estimators import Estimator, require_estimator, straight_through
from flatvq.quantize.module import Quantizer
from flatvq.quantize.result import Quantized
from flatvq.quantize.vector import VectorQuantizer
from flatvq.randomness import derived_seed

__all__ = ["ResidualQuantizer"]


class ResidualQuantizer(Quantizer):
    """Quantize a vector, then its residual, and so on (Zeghidour et al. 2021, algorithm 1).

    ```
    z -- nearest --> e_1
    z - e_1 -- nearest --> e_2          quantized = e_1 + e_2 + ... + e_Q
    z - e_1 - e_2 -- nearest --> e_3
    ```

    Each stage is a `VectorQuantizer` with its own codebook. The codebook of a stage is initialized from data
    after the codebook of the previous stage.

    The losses are sums over the stages. Residuals are taken from detached code vectors, so that the
    commitment loss of every stage reaches the encoder.

    Args:
        codebook_size: K of every stage.
        code_dim: C = D.
        stages: Q.
        estimator: the gradient estimator for the sum of all code vectors.
        seed: the seed of all random draws, together with the stage and the step.
        settings: `update`, `init`, `replacement` and `process_group` of every `VectorQuantizer`.

    Raises:
        FlatvqError: if a setting is out of range.

    Example:
        >>> quantizer = ResidualQuantizer(codebook_size=16, code_dim=4, stages=3)
        >>> latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> out = quantizer(latents)
        >>> out.quantized.shape, out.indices.shape, quantizer.bits_per_position
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 3, 8, 8]), 12.0)
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        stages: int,
        *,
        estimator: Estimator = straight_through,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__()
        for name in ("input_dim", "metric"):
            if name in settings:
                raise FlatvqError(
                    f"a residual quantizer has no setting {name}",
                    "leave it out: residuals need the Euclidean space",
                )
        self.index_shape = (whole_number("stages", stages, 1),)
        require_estimator(estimator)
        self.estimator = estimator
        seed = whole_number("seed", seed, 0)
        quantizers = [
            VectorQuantizer(codebook_size, code_dim, seed=derived_seed(seed, "stage", stage), **settings)
            for stage in range(stages)
        ]
        self.codebook_size = quantizers[0].codebook_size
        self.input_dim = self.code_dim = quantizers[0].code_dim
        self.stages = nn.ModuleList(quantizers)
        self._order_codebooks()

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        if self.training and not torch.compiler.is_compiling():
            self._order_codebooks()  # stages may have been replaced
        residual, outputs = flat, []
        for stage in self._quantizers():
            out = stage._quantize(residual, valid)
            residual = residual - out.code_vectors  # z minus detached code vectors
            outputs.append(out)
        code_vectors = torch.stack([out.code_vectors for out in outputs]).sum(dim=0)
        return Quantized(
            quantized=self.estimator(flat, code_vectors),
            indices=torch.stack([out.indices for out in outputs], dim=1),
            codebook_loss=torch.stack([out.codebook_loss for out in outputs]).sum(),
            commitment_loss=torch.stack([out.commitment_loss for out in outputs]).sum(),
            entropy_loss=flat.new_zeros(()),
            latents=flat.detach(),
            code_vectors=code_vectors,
        )

    def _decode(self, indices: Tensor) -> Tensor:
        stages = zip(self._quantizers(), indices.unbind(dim=1), strict=True)
        return torch.stack([stage._decode(column) for stage, column in stages]).sum(dim=0)

    def _require_device(self, tensor: Tensor, name: str) -> None:
        self._quantizers()[0]._require_device(tensor, name)

    def _order_codebooks(self) -> None:
        """Initialize each codebook after the codebook of the previous stage. Stages may share a codebook."""
        codebooks = list(dict.fromkeys(stage.codebook for stage in self._quantizers()))
        codebooks[0].init_after()
        for previous, codebook in pairwise(codebooks):
            codebook.init_after(previous)

    def _quantizers(self) -> list[VectorQuantizer]:
        return cast("list[VectorQuantizer]", list(self.stages))
