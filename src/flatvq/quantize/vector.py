"""The vector quantizer: lookup, losses and gradient. Its codebook trains itself.

Axes: B batch, C input channels, D code dim, K codes, N = B x grid flattened vectors.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from flatvq.deprecation import renamed_arguments
from flatvq.errors import FlatvqError
from flatvq.quantize.checks import has_values, instance_of, whole_number
from flatvq.quantize.codebook import Codebook
from flatvq.quantize.commitment import commitment_loss
from flatvq.quantize.ema import Ema, Gradient, Update
from flatvq.quantize.estimators import (
    Estimator,
    in_forward_mode,
    needs_gradient,
    require_estimator,
    straight_through,
)
from flatvq.quantize.init import Init, KMeansInit
from flatvq.quantize.module import Quantizer
from flatvq.quantize.precision import Float32Linear
from flatvq.quantize.replacement import DeadCodeReplacement
from flatvq.quantize.result import Quantized

__all__ = ["VectorQuantizer"]


class VectorQuantizer(Quantizer):
    """Replace each vector by its nearest code (van den Oord et al. 2017, section 3).

    ```
    latents [B, C, *grid] -> project -> z [N, D] --- nearest ---> indices [B, *grid]
                                          |             |
                                          +- estimator -+-> e [N, D] -> project -> quantized [B, C, *grid]
    ```

    In training mode a forward pass also trains the codebook: first the init from data, then the update by
    moving averages and the replacement of inactive codes. In eval mode no state changes. A forward pass that
    activation checkpointing repeats trains the codebook once.

    `codebook.set_code_vectors` sets the codes, and `codebook.freeze` keeps them fixed.

    Args:
        codebook_size: K.
        code_dim: D.
        input_dim: C; D if None. If C and D differ, linear maps project to the space of the codes and back
            (ViT-VQGAN, Yu et al. 2022, section 3.2).
        metric: `euclidean`, or `cosine`: vectors and codes are scaled to unit length (the same paper).
        update: `Ema(...)` or `Gradient(...)`.
        estimator: `straight_through` or `rotation_trick`.
        init: `RandomInit(...)`, `DataInit(...)` or `KMeansInit(...)`.
        replacement: `DeadCodeReplacement(...)`, or None for none.
        seed: the seed of all random draws, together with the step.
        process_group: the processes that train the codebook together; None for all. They may hold different
            numbers of vectors. The losses are means over the vectors of this process.

    Raises:
        FlatvqError: if a setting is out of range.

    Example:
        >>> quantizer = VectorQuantizer(codebook_size=16, code_dim=4)
        >>> latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> out = quantizer(latents)
        >>> out.quantized.shape, out.indices.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 8, 8]))
        >>> len(out.indices.unique())
        16
    """

    @renamed_arguments(seeding="init", revival="replacement")
    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        input_dim: int | None = None,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        update: Update | None = None,
        estimator: Estimator = straight_through,
        init: Init | None = None,
        replacement: DeadCodeReplacement | None = None,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        codebook_size, code_dim = (
            whole_number("codebook_size", codebook_size, 1),
            whole_number("code_dim", code_dim, 1),
        )
        width = code_dim if input_dim is None else whole_number("input_dim", input_dim, 1)
        if metric not in ("euclidean", "cosine"):
            raise FlatvqError(f"unknown metric {metric!r}", "choose 'euclidean' or 'cosine'")
        update = Ema() if update is None else update
        init = KMeansInit() if init is None else init
        instance_of("update", update, Update, ["Ema()", "Gradient()"])
        instance_of("init", init, Init, ["KMeansInit()", "DataInit()", "RandomInit()"])
        if replacement is not None:
            instance_of("replacement", replacement, DeadCodeReplacement, ["DeadCodeReplacement()"])
        require_estimator(estimator)
        self.codebook_size = codebook_size
        self.code_dim = code_dim
        self.estimator = estimator
        self._scaled = _unit_length if metric == "cosine" else _identity
        self.codebook = Codebook(
            codebook_size,
            code_dim,
            update,
            init,
            replacement,
            self._scaled,
            whole_number("seed", seed, 0),
            process_group,
        )
        self.input_dim = width
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if width != code_dim:
            self.project_in = Float32Linear(width, code_dim, dtype=torch.float32)
            self.project_out = Float32Linear(code_dim, width, dtype=torch.float32)

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        vectors = self._scaled(self.project_in(flat))  # [N, D]
        latents = vectors.detach()
        indices, chosen, error = self.codebook.look_up(latents, valid)  # eq. 1 and 2
        commitment = commitment_loss(vectors, chosen, error, valid)  # eq. 3, third term, without beta
        codebook_loss = commitment.detach()  # eq. 3, second term, which has the same value
        if self._codes_have_gradients():
            # From a copy, because another forward pass may replace codes before this backward pass.
            learned = F.embedding(indices, self._scaled(self.codebook.weight.float().clone()))
            codebook_loss = commitment_loss(learned, latents, error, valid)
        return Quantized(
            quantized=self.project_out(self.estimator(vectors, chosen)),
            indices=indices,
            codebook_loss=codebook_loss,
            commitment_loss=commitment,
            entropy_loss=flat.new_zeros(()),
            latents=latents,
            code_vectors=chosen,
        )

    def _decode(self, indices: Tensor) -> Tensor:
        result: Tensor = self.project_out(F.embedding(indices, self.codebook.code_vectors))
        return result

    def _codes_have_gradients(self) -> bool:
        """Return whether derivatives with respect to the codebook may follow."""
        if in_forward_mode():
            return isinstance(self.codebook.update, Gradient)
        if not (torch.is_grad_enabled() and needs_gradient(self.codebook.weight)):
            return False
        # A state that was copied in place may be frozen with a weight that requires gradients.
        return not (has_values(self.codebook.is_frozen) and self.codebook.frozen)

    def _require_device(self, tensor: Tensor, name: str) -> None:
        if self.codebook.weight.is_meta and not tensor.is_meta:
            what = "the code vectors are on the meta device, which has no values"
            remedy = "load them; if a tool offloads weights, let it load whole quantizers (in accelerate: "
            raise FlatvqError(
                what, remedy + "preload_module_classes=['VectorQuantizer', 'ResidualQuantizer'])"
            )
        device = self.codebook.counts.device
        if tensor.device != device:
            raise FlatvqError(
                f"the {name} are on {tensor.device}, and the codebook on {device}",
                "move one of them with .to()",
            )


def _unit_length(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=1)


def _identity(vectors: Tensor) -> Tensor:
    return vectors
