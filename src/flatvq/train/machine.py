"""What a training runs on: device, number format, processes, and the allocator's habits.

Several processes are plain torch under `torchrun`, which sets the environment that is read here.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from flatvq.errors import FlatvqError
from flatvq.recipe import TrainRecipe
from flatvq.train.launch import Launch, launch_of

__all__ = ["Machine", "keep_freed_memory", "machine_for", "processor", "repeatable"]

T = TypeVar("T")

# For the other processes to start, which takes seconds; torch waits for half an hour.
_PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True)
class Machine:
    """Where one process of a training works."""

    device: torch.device
    """This process's device."""
    bfloat16: bool
    """Whether forward passes run under bfloat16 autocast."""
    rank: int
    """This process's number."""
    world_size: int
    """Number of processes."""

    @property
    def precision(self) -> str:
        """Name of the number format."""
        return "bfloat16" if self.bfloat16 else "float32"

    def autocast(self) -> torch.autocast:
        """Make the context of a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def any_process(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process, so that all of them act alike."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(flags)
        return bool(flags)

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, by rank, in every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        """Raise the error of one process in all of them, so that none waits for a process that has ended.

        It covers FlatvqError and OSError. Every process has to enter the context.
        """
        error: FlatvqError | OSError | None = None
        try:
            yield
        except (FlatvqError, OSError) as raised:
            error = raised
        for found in self.gather(error):
            if found is not None:
                raise found


@contextmanager
def machine_for(recipe: TrainRecipe, launch: Launch | None = None) -> Iterator[Machine]:
    """Choose device and precision, and join the other processes if `torchrun` started several.

    Args:
        recipe: the training.
        launch: which process of the training this is; None for what the environment says.

    Raises:
        FlatvqError: if the environment contradicts itself, the other processes cannot be joined, the recipe
            asks for a device that is absent, or its batch cannot be shared out.
    """
    launch = launch or launch_of(os.environ)
    if recipe.batch_size % launch.world_size:
        what = f"train.batch_size {recipe.batch_size} cannot be shared by {launch.world_size} processes"
        raise FlatvqError(what, "make it a multiple")
    device = _device(recipe.device, launch.local_rank)
    joined = launch.world_size > 1 and not dist.is_initialized()
    if joined:
        _join("nccl" if device.type == "cuda" else "gloo")
    try:
        with repeatable(device):
            yield Machine(device, _bfloat16(recipe.precision, device), launch.rank, launch.world_size)
    finally:
        if joined:
            dist.destroy_process_group()


def _join(backend: str) -> None:
    """Join the other processes at the address in the environment."""
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=_PATIENCE))
        store.set_timeout(default_pg_timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:
        what = f"cannot join the other processes ({str(error).splitlines()[0]})"
        raise FlatvqError(what, "start them with torchrun, or unset WORLD_SIZE to train alone") from error


def processor() -> str:
    """Return the processor's name; where the system does not give it, its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _device(wanted: str, local_rank: int | None) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if present["cuda"] else "cpu"
    if not present[wanted]:
        raise FlatvqError(
            f"train.device is {wanted!r}, which this machine does not have", "use 'auto' or 'cpu'"
        )
    if wanted == "cuda":
        if (local_rank or 0) >= (gpus := torch.cuda.device_count()):
            what = f"LOCAL_RANK is {local_rank} in the environment, and the number of GPUs is {gpus}"
            raise FlatvqError(what, "start as many processes as there are GPUs, or unset LOCAL_RANK")
        torch.cuda.set_device(local_rank or 0)
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(wanted)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Get the same bits from a GPU at every run, which a resumed run needs; a CPU gives them anyway.

    torch then adds in a fixed order what it would add atomically: the sums of the codebooks, above all.
    """
    if device.type != "cuda":
        yield
        return
    # Read when the first product is computed. Twice 8 workspaces of 4 MiB: what NVIDIA's documentation gives.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    asked = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fills, cudnn = memory.fill_uninitialized_memory, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory that it did not write; filling all of it would only take time.
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked)
        memory.fill_uninitialized_memory = fills
        torch.backends.cudnn.deterministic = cudnn


def _bfloat16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # The processor multiplies bfloat16 natively.
    return device.type == "cpu" and (cpu_has("avx512_bf16") or cpu_has("amx_bf16"))


def cpu_has(flag: str) -> bool:
    """Tell whether the processor has a feature, by its name in Linux' /proc/cpuinfo."""
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text(encoding="utf-8").split()


def keep_freed_memory() -> None:
    """Tell glibc to keep big freed blocks instead of returning them to the kernel at every step.

    Training frees and allocates the same activations over and over; the page faults of getting them back cost
    10 to 40 % of a small step on a CPU. Small freed blocks are merged at once, which saves 1 to 3 %. Linux
    with glibc only; FLATVQ_MALLOC=0 leaves the allocator alone.
    """
    if os.environ.get("FLATVQ_MALLOC") == "0" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Numbers from malloc.h; 2^30 bytes is more than any activation of a CPU training. Older versions of glibc
    # refuse more than 2^25.
    fast_bins, trim_threshold, mmap_threshold = 1, -1, -3
    mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, -1)  # never: whoever frees the block at the top would pay for all below it
    # Whoever frees a big block would pay for merging all small ones in these bins; and oneDNN makes and frees
    # thousands of small ones at every step.
    mallopt(fast_bins, 0)
