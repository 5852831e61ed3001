"""Compares compiled training steps of whole models in float32 to eager ones; see test_compile.py."""

import copy

import torch

from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.train.objective import objective

CASES = {
    "two levels": ModelRecipe(
        width=16,
        residual_width=8,
        residual_blocks=1,
        levels=(
            LevelRecipe(codebook_size=32, code_dim=8),
            LevelRecipe(downsample=2, codebook_size=32, code_dim=8),
        ),
    ),
    "residual levels, one with a warm-up": ModelRecipe(
        width=16,
        residual_width=8,
        residual_blocks=0,
        hierarchy="residual",
        levels=(
            LevelRecipe(codebook_size=32, code_dim=8),
            LevelRecipe(downsample=2, codebook_size=32, code_dim=8, warmup_steps=3),
        ),
    ),
}


def step(call, net, images):
    """Return the loss and the gradients of one step."""
    losses = objective(call(images), images, TrainRecipe())
    losses.total.backward()
    return [losses.total.detach(), *(parameter.grad for parameter in net.parameters())]


if __name__ == "__main__":
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32).to(memory_format=torch.channels_last)
    for name, recipe in CASES.items():
        torch._dynamo.reset()
        plain = build_vqvae(recipe, CodebookRecipe()).to(memory_format=torch.channels_last)
        copied = copy.deepcopy(plain)
        compiled = step(torch.compile(copied.__call__), copied, images)
        torch.testing.assert_close(compiled, step(plain, plain, images), rtol=1e-3, atol=1e-5)
        plain.eval()
        with torch.no_grad():
            indices = plain.encode(images)
            # This backend generates no code, so there is no other rounding, and all bits must be equal.
            encode, decode = (
                torch.compile(call, fullgraph=True, backend="aot_eager")
                for call in (plain.encode, plain.decode)
            )
            assert all(
                torch.equal(ours, theirs) for ours, theirs in zip(encode(images), indices, strict=True)
            )
            assert torch.equal(decode(indices), plain.decode(indices))
        print("same step:", name)  # noqa: T201
