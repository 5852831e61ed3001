"""One of W processes that train quantizers together; started by test_distributed.py, never imported.

    python two_processes.py RANK WORLD_SIZE FOLDER

Each takes its share of the same batches and writes what it saw at each step.
"""

from __future__ import annotations

import sys
from dataclasses import astuple
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    RandomInit,
    VectorQuantizer,
    rotation_trick,
)
from flatvq.randomness import generator

STEPS = 12
BATCH = 16
OFTEN = DeadCodeReplacement(every=3, fraction=0.8, share=0.5, grace=2)

SCENARIOS = {
    "random, ema": {"init": RandomInit(), "update": Ema(0.9)},
    "kmeans, ema": {"init": KMeansInit(4), "update": Ema(0.9), "replacement": OFTEN},
    "kmeans, ema, cosine": {
        "init": KMeansInit(4),
        "update": Ema(0.9),
        "replacement": OFTEN,
        "metric": "cosine",
        "estimator": rotation_trick,
    },
    # 24 codes x 25 = 600 of 288 vectors a step: three steps of gathering.
    "data over steps, ema": {"init": DataInit(25), "update": Ema(0.9), "replacement": OFTEN},
    "kmeans, gradient": {"init": KMeansInit(4), "update": Gradient(0.9), "replacement": OFTEN},
    "data over steps, gradient, cosine": {
        "init": DataInit(25),
        "update": Gradient(0.9),
        "replacement": OFTEN,
        "metric": "cosine",
    },
    # Filled in below: k-means that rounds differently on each process, as sums on GPUs do.
    "uneven rounding, ema": {"update": Ema(0.9)},
}


class Toy(nn.Module):
    """An encoder, a quantizer and a loss, in one forward pass as DistributedDataParallel wants it."""

    def __init__(self, **arguments) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 4, 1)
        self.quantizer = VectorQuantizer(24, 4, **arguments)

    def forward(self, images):
        out = self.quantizer(self.encoder(images))
        loss = out.quantized.square().mean() + out.codebook_loss + 0.25 * out.commitment_loss
        return loss, out.indices


class UnevenKMeans(KMeansInit):
    def draw(self, vectors, codebook_size, random):
        drawn = super().draw(vectors, codebook_size, random)
        if dist.is_initialized():
            drawn.code_vectors.mul_(1 + 1e-6 * dist.get_rank())
        return drawn


def train(rank, world_size, arguments):
    """Return what happened: per step codes, indices, counts and encoder weights, and the events."""
    toy = Toy(**arguments)
    parallel = DistributedDataParallel(toy) if world_size > 1 else toy
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.1)
    book, path = toy.quantizer.codebook, []
    for step in range(STEPS):
        images = torch.randn(BATCH, 3, 3, 6, generator=generator(0, "images", step)) + step / 4
        share = BATCH // world_size
        loss, indices = parallel(images[rank * share : (rank + 1) * share])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen = {
            "codes": book.weight,
            "counts": book.counts,
            "births": book.births,
            "weights": toy.encoder.weight,
        }
        path.append({name: tensor.detach().clone() for name, tensor in seen.items()} | {"indices": indices})
    return {"path": path, "events": [(type(event).__name__, *astuple(event)) for event in book.events]}


def main() -> None:
    """Run every scenario and save what each one did."""
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
        )
    SCENARIOS["uneven rounding, ema"]["init"] = UnevenKMeans(4)
    results = {name: train(rank, world_size, arguments) for name, arguments in SCENARIOS.items()}
    torch.save(results, folder / f"{rank}-of-{world_size}.pt")
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
