"""Build a two-level hierarchy from scratch, with your own encoder and decoder.

Run `python examples/hierarchy.py`. The top level quantizes a coarse grid. The bottom level quantizes a
finer grid, conditioned on the decoded top level, as in VQ-VAE-2.
"""

import argparse
import math

import numpy as np
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import flatvq


def quantizer(codebook_size: int, steps: int) -> flatvq.VectorQuantizer:
    """Return a quantizer of 64 channels with 16-dimensional codes, initialized by k-means."""
    replacement = flatvq.DeadCodeReplacement(every=20, stop=int(0.8 * steps))
    return flatvq.VectorQuantizer(
        codebook_size, 16, input_dim=64, init=flatvq.KMeansInit(2), replacement=replacement
    )


class TwoLevels(nn.Module):
    """A grid of H/8 x W/8 indices at the bottom and one of H/16 x W/16 at the top."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.encode_bottom = nn.Sequential(nn.Conv2d(3, 64, 8, stride=8), nn.ReLU(), nn.Conv2d(64, 64, 1))
        self.encode_top = nn.Sequential(nn.ReLU(), nn.Conv2d(64, 64, 2, stride=2))
        self.top, self.bottom = quantizer(128, steps), quantizer(256, steps)
        self.decode_top = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.merge = nn.Conv2d(128, 64, 1)
        self.decode = nn.Sequential(nn.Conv2d(128, 64, 1), nn.ReLU(), nn.ConvTranspose2d(64, 3, 8, stride=8))

    def forward(self, images: Tensor) -> tuple[Tensor, list[flatvq.Quantized]]:
        """Return the reconstruction of images [B, 3, H, W], and the quantizers' results, bottom first."""
        fine = self.encode_bottom(images)
        top = self.top(self.encode_top(fine))
        above = self.decode_top(top.quantized)
        bottom = self.bottom(self.merge(torch.cat([fine, above], dim=1)))
        return self.decode(torch.cat([bottom.quantized, above], dim=1)), [bottom, top]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=400)
steps = parser.parse_args().steps
torch.manual_seed(0)
picture = torch.from_numpy(np.array(data.astronaut())).movedim(-1, 0) / 255
crops = picture.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).movedim(1, 0)  # [64, 3, 64, 64]
model = TwoLevels(steps)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(steps):
    images = crops[torch.randperm(len(crops))[:16]]
    reconstructions, levels = model(images)
    loss = mse_loss(reconstructions, images) + 0.25 * sum(level.commitment_loss for level in levels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.eval()
with torch.no_grad():
    reconstructions, levels = model(crops)
decibels = flatvq.psnr(reconstructions.clamp(0, 1), crops, data_range=1.0)
print(f"{decibels.mean():.2f} dB on the training crops")
for name, module, level in zip(("bottom", "top"), (model.bottom, model.top), levels, strict=True):
    usage = flatvq.code_usage(torch.bincount(level.indices.flatten(), minlength=module.codebook_size))
    cells = level.indices[0].numel()
    bits = cells * math.log2(module.codebook_size)
    print(f"{name}: {cells} indices, {bits:.0f} bits an image, {usage.usage:.0%} of the codes used")
