"""Turn a folder of images into tokens, and train a small generator on them.

Run `python examples/generator.py my-images`. Without a folder, it uses photographs that scikit-image ships.
It encodes the images once with a pretrained tokenizer, trains a transformer that predicts each index from
those before it, and writes new images to generated.png.
"""

import argparse
import math
from pathlib import Path

import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.data import DataLoader

import flatvq

SIDE = 64


class Generator(nn.Module):
    """A causal transformer over sequences of N indices."""

    def __init__(self, vocabulary: int, length: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(width, vocabulary)

    def forward(self, indices: Tensor) -> Tensor:
        """Return the logits of each index, [B, N, K], from the indices before it, [B, N]."""
        mask = nn.Transformer.generate_square_subsequent_mask(indices.shape[1])
        hidden = self.embedding(indices) + self.position[: indices.shape[1]]
        logits: Tensor = self.output(self.layers(hidden, mask=mask, is_causal=True))
        return logits


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("images", nargs="?", default="photographs", help="folder of images")
parser.add_argument("--steps", type=int, default=200)
options = parser.parse_args()
if options.images == "photographs":
    Path("photographs").mkdir(exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(f"photographs/{name}.png")

tokenizer = flatvq.load("flatvq-f8")
flatvq.encode_images(tokenizer, options.images, "codes", resize=SIDE, crop=SIDE)
codes = flatvq.CodeDataset("codes")
start = codes.levels[0].codebook_size  # an additional index that starts every sequence
cells = SIDE // codes.levels[0].factor

torch.manual_seed(0)
generator = Generator(start, cells * cells)
optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
loader = DataLoader(codes, batch_size=min(16, len(codes)), shuffle=True, drop_last=True)
for step in range(options.steps):
    sequence = next(iter(loader))["levels"][0].flatten(1)  # [B, N]
    logits = generator(pad(sequence, (1, -1), value=start))
    loss = nn.CrossEntropyLoss()(logits.transpose(1, 2), sequence)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 50 == 0 or step == 0:
        print(f"step {step + 1}: {loss / math.log(2):.2f} bits per index")

drawn = torch.full((4, 1), start)
with torch.no_grad():
    for _ in range(cells * cells):
        chances = generator.eval()(drawn)[:, -1].softmax(-1)
        drawn = torch.cat([drawn, chances.multinomial(1)], dim=1)
    pictures = tokenizer.decode([drawn[:, 1:].view(4, cells, cells)]).clamp(0, 1)
strip = pictures.mul(255).byte().permute(2, 0, 3, 1).flatten(1, 2)  # side by side
Image.fromarray(strip.numpy()).save("generated.png")
