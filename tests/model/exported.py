"""Exports encoder and decoder programs, or runs them in another process; see test_export.py."""

import sys
from pathlib import Path

import torch
from torch import nn

from flatvq.model import VQVAE, build_vqvae
from flatvq.quantize import VectorQuantizer
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe

LEVELS = {
    "one-level": (LevelRecipe(codebook_size=16, code_dim=4),),
    "conditioned": (
        LevelRecipe(codebook_size=16, code_dim=4),
        LevelRecipe(downsample=2, codebook_size=8, code_dim=4),
    ),
    "residual": (
        LevelRecipe(codebook_size=16, code_dim=4),
        LevelRecipe(downsample=2, codebook_size=8, code_dim=3),
    ),
    "scalar": (LevelRecipe(scalar_levels=(5, 4, 3)),),
}


class Encode(nn.Module):
    """Encodes images to indices."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model.encode(images)


class Decode(nn.Module):
    """Decodes indices to images."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: list[torch.Tensor]) -> torch.Tensor:
        return self.model.decode(indices)


def images(batch: int, side: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))


def save(folder: Path) -> None:
    """Write the two programs of each model, and the outputs of the model."""
    for name, levels in LEVELS.items():
        hierarchy = "residual" if name == "residual" else "conditioned"
        recipe = ModelRecipe(levels=levels, hierarchy=hierarchy, width=8, residual_width=4)
        model = build_vqvae(recipe, CodebookRecipe(init=InitRecipe(kind="data", vectors_per_code=1)))
        model(images(4))
        model.eval()
        batch = torch.export.Dim("batch")
        indices = list(model.encode(images(2)))
        encode = torch.export.export(Encode(model), (images(2),), dynamic_shapes={"images": {0: batch}})
        grids = {"indices": [{0: batch} for _ in levels]}
        decode = torch.export.export(Decode(model), (indices,), dynamic_shapes=grids)
        torch.export.save(encode, folder / f"{name}-encode.pt2")
        torch.export.save(decode, folder / f"{name}-decode.pt2")
        expected = model.encode(images(5))
        with torch.no_grad():
            torch.save((list(expected), model.decode(expected)), folder / f"{name}.pt")


def load(folder: Path, others: int) -> None:
    """Run the programs with another batch size, in a process that also holds other codebooks."""
    kept = [VectorQuantizer(8, 4, metric="cosine") for _ in range(others)]
    for name in LEVELS:
        indices, decoded = torch.load(folder / f"{name}.pt")
        encode = torch.export.load(folder / f"{name}-encode.pt2").module()
        decode = torch.export.load(folder / f"{name}-decode.pt2").module()
        encoded = encode(images(5))
        assert [level.dtype for level in encoded] == [torch.int64] * len(indices)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(encoded, indices, strict=True)), name
        torch.testing.assert_close(decode(indices), decoded, rtol=0, atol=1e-6)
        print("same indices:", name, "single_level_counterpart", len(kept), "codebooks")  # noqa: T201


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if sys.argv[1] == "save":
        save(folder)
    else:
        load(folder, int(sys.argv[3]))
