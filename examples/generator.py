"""Turn a folder of images into tokens, and train a small generator on them.

Run `python examples/generator.py my-images`. Without a folder, it uses photographs that scikit-image ships.
It encodes the images once with a pretrained tokenizer, trains a transformer that predicts each index from
those before it, and writes new images to generated.png.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader

import flatvq


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
        """Return the logits of each index, [B, N, K], from those before it, [B, N]."""
        length = indices.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embedding(indices) + self.position[:length]
        return self.output(self.layers(hidden, mask=mask, is_causal=True))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("images", nargs="?", help="folder of images")
parser.add_argument("--steps", type=int, default=200)
options = parser.parse_args()
torch.manual_seed(0)
images = options.images
if images is None:
    images = "photographs"
    Path(images).mkdir(exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(f"{images}/{name}.png")

tokenizer = flatvq.load("flatvq-f8")
flatvq.encode_images(tokenizer, images, "codes", resize=64, crop=64)
codes = flatvq.CodeDataset("codes")
(level,) = codes.levels
rows = columns = 64 // level.factor
start = level.codebook_size  # an additional index that starts every sequence

generator = Generator(level.codebook_size, rows * columns)
optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
loader = DataLoader(codes, batch_size=min(16, len(codes)), shuffle=True, drop_last=True)
step = 0
while step < options.steps:
    for batch in loader:
        sequence = batch["levels"][0].flatten(1)  # [B, N]
        logits = generator(pad(sequence, (1, -1), value=start))
        loss = cross_entropy(logits.transpose(1, 2), sequence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step == 1 or step % 50 == 0:
            print(f"step {step}: {loss / torch.log(torch.tensor(2.0)):.2f} bits per index")
        if step == options.steps:
            break

generator.eval()
drawn = torch.full((4, 1), start)
with torch.no_grad():
    for _ in range(rows * columns):
        chances = generator(drawn)[:, -1].softmax(-1)
        drawn = torch.cat([drawn, chances.multinomial(1)], dim=1)
    pictures = tokenizer.decode([drawn[:, 1:].view(4, rows, columns)])
strip = pictures.clamp(0, 1).mul(255).byte().permute(2, 0, 3, 1).flatten(1, 2)  # side by side
Image.fromarray(strip.numpy()).save("generated.png")
print(f"4 images of {tokenizer.factor * rows} pixels in generated.png")
