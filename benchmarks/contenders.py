"""The two sides of every comparison, built so that they compute the same thing.

The peer is `VectorQuantize` of vector-quantize-pytorch, with the same decay and the same estimator,
straight-through, as flatvq, in float32. Axes: N vectors, K codes, D code dim, B batch, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from flatvq.model import VQVAE, build_vqvae
from flatvq.quantize import DeadCodeReplacement, Quantized, Quantizer, RandomInit, VectorQuantizer
from flatvq.quantize.init import KMeansInit
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe, ReplacementRecipe, TrainRecipe
from flatvq.train.machine import machine_for, repeatable
from flatvq.train.objective import objective
from flatvq.train.optimizer import optimizer_for

__all__ = ["Call", "eval_pair", "flatvq_step", "model_recipe", "peer_step", "training_pair"]

DECAY = 0.99
# Differences of distances, relative to their scale, that may be rounding.
_ROUNDING = 1e-5
Call = Callable[[], object]


class PeerQuantizer(Quantizer):
    """The peer as a quantizer of flatvq, so that both have the same network around them."""

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.codebook_size, self.code_dim, self.input_dim = codebook_size, code_dim, code_dim
        self.layer = peer_quantizer(codebook_size, code_dim)

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        """Quantize [N, D]; the peer's loss is the commitment loss."""
        quantized, indices, loss = self.layer(flat)
        zero, codes = loss.new_zeros(()), quantized.detach()
        return Quantized(quantized, indices, zero, loss.sum(), zero, flat.detach(), codes)

    def _decode(self, indices: Tensor) -> Tensor:
        """Look up int64 [N]."""
        codes: Tensor = self.layer.get_codes_from_indices(indices)
        return codes


def peer_quantizer(codebook_size: int, code_dim: int, **options: object) -> VectorQuantize:
    """Build the peer as its users do against collapse: k-means first, codes below a count of 2 replaced."""
    settings = {"decay": DECAY, "rotation_trick": False, "kmeans_init": True, "threshold_ema_dead_code": 2}
    return VectorQuantize(dim=code_dim, codebook_size=codebook_size, **{**settings, **options})


def eval_pair(
    vectors: Tensor, codebook_size: int, codes: Tensor | None = None
) -> tuple[dict[str, Call], str]:
    """Quantize vectors [N, D] in eval mode, with the same codes on both sides: random ones, or those given.

    Returns:
        The contenders, and what was checked.
    """
    ours = VectorQuantizer(codebook_size, vectors.shape[1], init=RandomInit()).eval()
    if codes is not None:
        ours.codebook.weight.data.copy_(codes)
    peer = peer_quantizer(codebook_size, vectors.shape[1], kmeans_init=False).eval()
    ours, peer = ours.to(vectors.device), peer.to(vectors.device)
    peer._codebook.embed.data.copy_(ours.codebook.weight[None])
    with torch.no_grad():
        indices, theirs = ours(vectors).indices, peer(vectors)[1]
        same = _agreement(vectors, ours.codebook.weight, indices, theirs)
    return {"flatvq": _without_gradients(ours, vectors), "other": _without_gradients(peer, vectors)}, same


def _agreement(vectors: Tensor, codes: Tensor, indices: Tensor, theirs: Tensor) -> str:
    """Check that both sides' codes are the nearest, and say how many are the same.

    Where float32 cannot tell two codes apart, each side may take either.
    """
    apart = _distance(vectors, codes, indices) - _distance(vectors, codes, theirs)
    for side, more in (("flatvq", apart), ("the peer", -apart)):
        further, most = int((more >= _ROUNDING).sum()), float(more.max())
        assert most < _ROUNDING, f"{side}'s codes of {further} vectors are further, by up to {most}"
    same = int((indices == theirs).sum())
    return f"{same} of {len(vectors)} indices are the same, the others tie within rounding"


def training_pair(vectors: Tensor, codebook_size: int) -> tuple[dict[str, Call], str]:
    """Take training steps of the quantizers alone: forward, moving averages, replacement, backward."""
    size, dim = codebook_size, vectors.shape[1]
    ours = VectorQuantizer(
        size,
        dim,
        init=KMeansInit(vectors_per_code=1),
        replacement=DeadCodeReplacement(every=1, fraction=0.05),
    )
    ours, peer = ours.to(vectors.device), peer_quantizer(size, dim).to(vectors.device)
    return {"flatvq": _step(ours, vectors), "other": _step(peer, vectors)}, _same_step(vectors, codebook_size)


def _same_step(vectors: Tensor, codebook_size: int) -> str:
    """Check that one training step from the same codes gives the same codes, loss and gradient."""
    size, dim = codebook_size, vectors.shape[1]
    ours = VectorQuantizer(size, dim, init=RandomInit())
    peer = peer_quantizer(size, dim, kmeans_init=False, threshold_ema_dead_code=0)
    ours, peer = ours.to(vectors.device), peer.to(vectors.device)
    peer._codebook.embed.data.copy_(ours.codebook.weight[None])
    peer._codebook.embed_avg.data.copy_(ours.codebook.weight[None])
    peer._codebook.cluster_size.data.fill_(1.0)
    a, b = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    out, (quantized, indices, loss) = ours(a), peer(b)
    (out.quantized.square().sum() + out.commitment_loss).backward()
    (quantized.square().sum() + loss.sum()).backward()
    assert a.grad is not None
    assert b.grad is not None
    same = out.indices == indices
    assert float(same.float().mean()) > 0.999, "the sides disagree on indices"
    torch.testing.assert_close(a.grad[same], b.grad[same], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.commitment_loss, loss.sum(), rtol=1e-4, atol=1e-6)
    moved = (ours.codebook.weight - peer._codebook.embed[0]).abs().amax(dim=1)
    # A vector that went to another code in a tie moves two codes.
    assert int((moved > 1e-3).sum()) <= 2 * int((~same).sum()), "the sides update codes differently"
    return "one step from the same codes gives the same indices, loss, gradient and codes up to rounding"


def _step(quantizer: nn.Module, vectors: Tensor) -> Call:
    inputs = vectors.clone().requires_grad_()

    def call() -> None:
        out = quantizer(inputs)
        if isinstance(out, Quantized):
            total = out.quantized.sum() + out.commitment_loss
        else:
            total = out[0].sum() + out[2].sum()
        total.backward()  # type: ignore[no-untyped-call]

    return call


def _without_gradients(quantizer: nn.Module, vectors: Tensor) -> Call:
    def call() -> None:
        with torch.no_grad():
            quantizer(vectors)

    return call


def _distance(vectors: Tensor, codes: Tensor, indices: Tensor) -> Tensor:
    """Squared distances [N], over what rounds when they are computed: |z|^2 plus the largest |e|^2."""
    lengths = [array.double().square().sum(dim=1) for array in (vectors, codes)]
    distances = (vectors.double() - codes[indices].double()).square().sum(dim=1)
    return distances / (lengths[0] + lengths[1].max())


def model_recipe(levels: int, codebook_size: int, code_dim: int) -> ModelRecipe:
    """Give the reference's model: width 128, residual width 64, two residual blocks."""
    strides = (4, *[2] * (levels - 1))
    return ModelRecipe(
        width=128,
        residual_width=64,
        levels=tuple(
            LevelRecipe(downsample=stride, codebook_size=codebook_size, code_dim=code_dim)
            for stride in strides
        ),
    )


def flatvq_step(model: ModelRecipe, images: Tensor, *, compiled: bool = False) -> Call:
    """Train as `flatvq train` does: channels last, bfloat16 where the processor is fast at it."""
    recipe = TrainRecipe(batch_size=len(images), learning_rate=3e-4)
    codebook = CodebookRecipe(replacement=ReplacementRecipe(every=1, fraction=0.05))
    with machine_for(recipe) as machine:
        net = build_vqvae(model, codebook).to(machine.device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = images.to(machine.device).to(memory_format=torch.channels_last)
    optimizer = optimizer_for(net, recipe)
    forward = torch.compile(net.__call__) if compiled else net

    def call() -> None:
        with repeatable(machine.device):
            with machine.autocast():
                output = forward(pixels)
            losses = objective(output, pixels, recipe)
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    # Until enough vectors are gathered, each step seeds anew.
    while not compiled and not all(cast("VectorQuantizer", q).codebook.initialized for q in net.quantizers):
        call()
    return call


def peer_step(model: ModelRecipe, images: Tensor) -> Call:
    """Train the same network in plain eager float32 with the peer's layer, as a user would write it."""
    recipe = TrainRecipe(batch_size=len(images))
    net = VQVAE(model, [PeerQuantizer(level.codebook_size, level.code_dim) for level in model.levels])
    net.to(images.device)
    optimizer = torch.optim.Adam(net.parameters(), 3e-4)

    def call() -> None:
        losses = objective(net(images), images, recipe)
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return call
