"""One of W processes that share a codebook in unusual ways; started by test_ranks.py, never imported.

    python ranks.py RANK WORLD_SIZE FOLDER

Writes what it saw to FOLDER/RANK-of-WORLD_SIZE.pt.
"""

from __future__ import annotations

import sys
from dataclasses import astuple
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flatvq.errors import FlatvqError
from flatvq.model import build_vqvae
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    UsageCounter,
    VectorQuantizer,
)
from flatvq.randomness import generator
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

STEPS = 12
OFTEN = DeadCodeReplacement(every=3, fraction=0.8, share=0.5, grace=2)
# Vectors of rank 0 and rank 1 at each step: ragged, and sometimes none.
SIZES = [
    (40, 3),
    (0, 30),
    (25, 0),
    (1, 60),
    (0, 0),
    (33, 7),
    (50, 50),
    (0, 0),
    (2, 0),
    (0, 41),
    (17, 18),
    (9, 80),
]


def batch(step: int) -> torch.Tensor:
    """Draw all vectors of a step [N, 4]."""
    return torch.randn(sum(SIZES[step]), 4, generator=generator(0, "ragged", step)) + step / 4


def ragged(rank: int, world_size: int, masked: bool, **arguments: object) -> dict[str, object]:
    """Train on this rank's share of each batch, as vectors of its own or behind a mask."""
    quantizer = VectorQuantizer(12, 4, replacement=OFTEN, **arguments)
    path = []
    for step in range(STEPS):
        vectors, (first, _) = batch(step), SIZES[step]
        mine = torch.ones(len(vectors), dtype=torch.bool)
        if world_size > 1:
            mine = (torch.arange(len(vectors)) < first) == (rank == 0)
        out = quantizer(vectors, mask=mine) if masked else quantizer(vectors[mine])
        indices = out.indices[mine] if masked else out.indices
        path.append({"indices": indices, **quantizer.state_dict()})
        path[-1] = {name: tensor.clone() for name, tensor in path[-1].items()}
    return {"path": path, "events": [astuple(event) for event in quantizer.codebook.events]}


def own_group(rank: int, world_size: int) -> torch.Tensor:
    """Train a codebook of this process alone, in a group of its own, with its own number of steps."""
    groups = [dist.new_group([number]) for number in range(world_size)] if world_size > 1 else [None]
    quantizer = VectorQuantizer(8, 4, process_group=groups[rank], init=KMeansInit(2))
    for step in range(3 + rank):
        quantizer(torch.randn(20, 4, generator=generator(rank, "own", step)))
    return quantizer.codebook.weight


def loaded_on_the_first(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Load a trained codebook on rank 0 only; DDP broadcasts it."""
    trained = VectorQuantizer(8, 4, init=KMeansInit(2))
    trained.codebook.set_code_vectors(torch.randn(8, 4, generator=generator(0, "codes")) + 10)
    model = nn.Sequential(nn.Linear(4, 4), VectorQuantizer(8, 4, init=KMeansInit(2), seed=rank))
    if rank == 0:
        model[1].load_state_dict(trained.state_dict())
    parallel = DistributedDataParallel(model) if world_size > 1 else model
    before = model[1].codebook.weight.clone()
    parallel(torch.randn(6, 4, generator=generator(0, "images")))
    return {"before": before, "after": model[1].codebook.weight.clone(), "given": trained.codebook.weight}


class Toy(nn.Module):
    """An encoder and a quantizer with a loss."""

    def __init__(self, update: Ema | Gradient, init: KMeansInit | DataInit) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(3, 6)
        self.quantizer = VectorQuantizer(12, 4, input_dim=6, update=update, init=init, replacement=OFTEN)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out = self.quantizer(self.encoder(inputs))
        return out.quantized.square().mean() + out.codebook_loss + 0.25 * out.commitment_loss


def sharded(rank: int, update: Ema | Gradient, init: KMeansInit | DataInit, how: str) -> dict[str, object]:
    """Train under DDP, FSDP2, FSDP2 of each linear layer, or FSDP2 with gathered weights in bfloat16."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    toy = Toy(update, init)
    if how == "ddp":
        call: nn.Module = DistributedDataParallel(toy)
    else:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if how == "bfloat16" else None)
        mesh = init_device_mesh("cpu", (2,))
        linears = [part for part in toy.modules() if isinstance(part, nn.Linear)]
        for part in linears if how == "linears" else [toy.quantizer]:
            fully_shard(part, mesh=mesh, mp_policy=policy)
        call = fully_shard(toy, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.SGD(toy.parameters(), 0.05)
    for step in range(9):
        inputs = torch.randn(16, 3, generator=generator(rank, "inputs", step)) + step / 4
        call(inputs).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = {
        name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        for name, tensor in toy.state_dict().items()
    }
    return {"state": state, "events": [astuple(event) for event in toy.quantizer.codebook.events]}


def sharded_codebook(rank: int) -> str:
    """Shard a codebook by itself, which no forward pass gathers; return the error."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    toy = Toy(Gradient(), KMeansInit(1))
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(toy.quantizer.codebook, mesh=mesh)
    try:
        fully_shard(toy, mesh=mesh)(torch.randn(16, 3, generator=generator(rank, "inputs", 0)))
    except FlatvqError as error:
        return str(error)
    return ""


def static_graph(rank: int, **options: bool) -> list[torch.Tensor]:
    """Train a whole autoencoder for two steps under DDP."""
    torch.manual_seed(0)
    level = LevelRecipe(codebook_size=8, code_dim=4)
    model = build_vqvae(ModelRecipe(width=8, residual_width=2, levels=(level,)), CodebookRecipe())
    parallel = DistributedDataParallel(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(2):
        images = torch.rand(4, 3, 16, 16, generator=generator(rank, "images", step))
        output = parallel(images)
        loss = (output.reconstruction - images).square().mean() + output.levels[0].commitment_loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


def counted(rank: int) -> list[int]:
    """Count indices of several processes together."""
    counter = UsageCounter(4)
    counter.add(torch.tensor([[0, 1, 1], [3, 3, 3]][rank]))
    together = counter.all_reduce()
    assert counter.counts.sum() == 3
    return together.counts.tolist()


def main() -> None:
    """Run everything and save what was seen."""
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if world_size > 1:
        meeting = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    seen: dict[str, object] = {}
    for masked in (False, True):
        for name, arguments in {
            "ema": {"update": Ema(0.9), "init": KMeansInit(2)},
            "over steps": {"update": Ema(0.9), "init": DataInit(9)},
            "gradient": {"update": Gradient(0.9), "init": KMeansInit(2)},
        }.items():
            seen[f"{name}, masked" if masked else name] = ragged(rank, world_size, masked, **arguments)
    if world_size > 1:
        seen["own"] = own_group(rank, world_size)
        seen["loaded"] = loaded_on_the_first(rank, world_size)
        seen["counted"] = counted(rank)
        seen["sharded codebook"] = sharded_codebook(rank)
        seen["autoencoder"] = [static_graph(rank), static_graph(rank, static_graph=True)]
        for update in (Ema(0.9), Gradient(0.9)):
            for init in (KMeansInit(1), DataInit(5)):
                for how in ("ddp", "fsdp2", "linears", "bfloat16"):
                    key = type(update).__name__, type(init).__name__, how
                    seen[str(key)] = sharded(rank, update, init, how)
    else:
        seen["own"] = [own_group_alone(number) for number in range(2)]
    torch.save(seen, folder / f"{rank}-of-{world_size}.pt")
    if world_size > 1:
        dist.destroy_process_group()


def own_group_alone(number: int) -> torch.Tensor:
    """Train what `own_group` trains, without any process group."""
    quantizer = VectorQuantizer(8, 4, init=KMeansInit(2))
    for step in range(3 + number):
        quantizer(torch.randn(20, 4, generator=generator(number, "own", step)))
    return quantizer.codebook.weight


if __name__ == "__main__":
    main()
