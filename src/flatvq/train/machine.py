"""The device, number format and processes of a training, and settings of the memory allocator.

Several processes run under `torchrun`, which sets the environment variables that are read here.
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

# How long to wait for the other processes to start. That takes seconds; the default of torch is half an hour.
_JOIN_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class Machine:
    """The device, number format and rank of one process of a training."""

    device: torch.device
    """The device of this process."""
    bfloat16: bool
    """Whether forward passes run under bfloat16 autocast."""
    rank: int
    """The number of this process."""
    world_size: int
    """The number of processes."""

    @property
    def precision(self) -> str:
        """The name of the number format."""
        return "bfloat16" if self.bfloat16 else "float32"

    def autocast(self) -> torch.autocast:
        """Return the autocast context for a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def any_process(self, flag: bool) -> bool:
        """Return whether the flag is true in any process. Every process gets the same answer."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(flags)
        return bool(flags)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, ordered by rank, in every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        """Raise an error of one process in all processes, so that none waits for a process that has ended.

        This applies to FlatvqError and OSError. Every process must enter the context.
        """
        error: FlatvqError | OSError | None = None
        try:
            yield
        except (FlatvqError, OSError) as raised:
            error = raised
        for gathered in self.gather(error):
            if gathered is not None:
                raise gathered


@contextmanager
def machine_for(recipe: TrainRecipe, launch: Launch | None = None) -> Iterator[Machine]:
    """Choose device and number format, and join the other processes if `torchrun` started several.

    Args:
        recipe: the training.
        launch: the rank of this process and the number of processes; None to read the environment.

    Raises:
        FlatvqError: if environment variables contradict each other, the other processes cannot be joined, the
            device of the recipe is not available, or the batch size is not a multiple of the number of
            processes.
    """
    launch = launch or launch_of(os.environ)
    if recipe.batch_size % launch.world_size:
        what = f"train.batch_size {recipe.batch_size} cannot be shared by {launch.world_size} processes"
        raise FlatvqError(what, f"set it to a multiple of {launch.world_size}")
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
    """Join the other processes at the address in the environment variables."""
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=_JOIN_TIMEOUT))
        store.set_timeout(default_pg_timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:
        what = f"cannot join the other processes ({str(error).splitlines()[0]})"
        raise FlatvqError(what, "start them with torchrun, or unset WORLD_SIZE to train alone") from error


def processor() -> str:
    """Return the name of the processor; its architecture if the system does not give the name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _device(name: str, local_rank: int | None) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise FlatvqError(
            f"train.device is {name!r}, which this machine does not have", "use 'auto' or 'cpu'"
        )
    if name == "cuda":
        if (local_rank or 0) >= (gpus := torch.cuda.device_count()):
            what = f"LOCAL_RANK is {local_rank} in the environment, and the number of GPUs is {gpus}"
            raise FlatvqError(what, "start one process per GPU, or unset LOCAL_RANK")
        torch.cuda.set_device(local_rank or 0)
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms on a GPU, so that a resumed run gives the same bits.

    torch then adds in a fixed order instead of atomically, in particular the sums of the codebooks. On a CPU
    nothing has to be changed.
    """
    if device.type != "cuda":
        yield
        return
    # cuBLAS reads it at the first matrix product. NVIDIA documents this value as deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    options: Any = torch.utils.deterministic
    fill, cudnn = options.fill_uninitialized_memory, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    # No code here reads uninitialized memory, so filling it would only take time.
    options.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        options.fill_uninitialized_memory = fill
        torch.backends.cudnn.deterministic = cudnn


def _bfloat16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Only processors with native bfloat16 multiplication gain from it.
    return device.type == "cpu" and (cpu_has("avx512_bf16") or cpu_has("amx_bf16"))


def cpu_has(flag: str) -> bool:
    """Return whether /proc/cpuinfo of Linux lists a feature of the processor."""
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text(encoding="utf-8").split()


def keep_freed_memory() -> None:
    """Set glibc to keep large freed blocks instead of returning them to the kernel at every step.

    Training frees and allocates the same activations at every step. The page faults of new memory take 10 to
    40 % of a small step on a CPU. Merging small freed blocks at once saves another 1 to 3 %. This applies
    only to Linux with glibc. FLATVQ_MALLOC=0 leaves the allocator unchanged.
    """
    if os.environ.get("FLATVQ_MALLOC") == "0" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Parameter numbers from malloc.h. 2^30 bytes is more than any activation of a training on a CPU. Older
    # versions of glibc accept at most 2^25.
    fast_bins, trim_threshold, mmap_threshold = 1, -1, -3
    mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, -1)  # never return the top of the heap to the kernel
    # Freeing a large block merges all small blocks in the fast bins, and oneDNN frees thousands of them at
    # every step. Without fast bins, small blocks are merged when they are freed.
    mallopt(fast_bins, 0)
