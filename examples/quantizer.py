"""Train your own autoencoder with a quantizer whose codebook stays in use.

Run `python examples/quantizer.py`. It trains the same small model twice: first with random initialization of
the codebook alone, then with k-means initialization and replacement of inactive codes.
"""

import argparse

import numpy as np
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import flatvq


class Autoencoder(nn.Module):
    """A convolutional autoencoder with one quantizer between encoder and decoder."""

    def __init__(self, quantizer: flatvq.Quantizer) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 64, 8, stride=8), nn.ReLU(), nn.Conv2d(64, 64, 1))
        self.quantizer = quantizer
        self.decoder = nn.Sequential(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.ConvTranspose2d(64, 3, 8, stride=8))

    def forward(self, images: Tensor) -> tuple[Tensor, flatvq.Quantized]:
        """Return the reconstruction of images [B, 3, H, W], and the result of the quantizer."""
        out = self.quantizer(self.encoder(images))
        return self.decoder(out.quantized), out


def random_crops(picture: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Cut square crops of 64 pixels out of a picture [3, H, W]."""
    rows = torch.randint(picture.shape[1] - 64, (count,), generator=generator).tolist()
    columns = torch.randint(picture.shape[2] - 64, (count,), generator=generator).tolist()
    return torch.stack([picture[:, y : y + 64, x : x + 64] for y, x in zip(rows, columns, strict=True)])


def train(quantizer: flatvq.Quantizer, picture: Tensor, steps: int) -> tuple[float, flatvq.CodeUsage]:
    """Train on crops of one picture, and return the PSNR in dB and the codebook usage of new crops."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Autoencoder(quantizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        images = random_crops(picture, 16, generator)
        reconstructions, out = model(images)
        loss = mse_loss(reconstructions, images) + 0.25 * out.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()  # from here on the codebook does not change
    usage = flatvq.UsageCounter(quantizer.codebook_size)
    with torch.no_grad():
        images = random_crops(picture, 64, generator)
        reconstructions, out = model(images)
    usage.add(out.indices)
    return flatvq.psnr(reconstructions.clamp(0, 1), images, data_range=1.0).mean().item(), usage.summary()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=400)
steps = parser.parse_args().steps
picture = torch.from_numpy(np.array(data.astronaut())).movedim(-1, 0) / 255
quantizers = {
    "naive": flatvq.VectorQuantizer(256, 8, input_dim=64, init=flatvq.RandomInit()),
    "healthy": flatvq.VectorQuantizer(
        256,
        8,
        input_dim=64,
        init=flatvq.KMeansInit(vectors_per_code=4),
        replacement=flatvq.DeadCodeReplacement(every=20, stop=int(0.8 * steps)),
    ),
}
for name, quantizer in quantizers.items():
    decibels, used = train(quantizer, picture, steps)
    print(f"{name}: {decibels:.2f} dB, {used.usage:.0%} of the codes used, perplexity {used.perplexity:.0f}")
