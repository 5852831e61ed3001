"""What all tests share: shapes checked at run time, one thread, and where the real photographs are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Before flatvq is imported: annotated shapes are then checked on every call.
install_import_hook(
    ["flatvq.nearest.search", "flatvq.quantize", "flatvq.model", "flatvq.evaluate"], "beartype.beartype"
)

# What there is beside the CPU: tests of what depends on it run there too.
ACCELERATORS = ["cuda"] if torch.cuda.is_available() else []

# How long an example takes says nothing about the code; the same examples at every run keep red tests red.
settings.register_profile("flatvq", deadline=None, derandomize=True)
settings.load_profile("flatvq")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Let wrong shapes through to flatvq's own checks, as they get there outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(params=["cpu", *ACCELERATORS])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each kind of device of this machine."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """The folder of real photographs, beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip("the ImageNet sample is not beside this checkout")
    return folder
