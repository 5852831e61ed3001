"""Fixtures of all tests: shape checks at run time, one thread, and the folder of real photographs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Installed before flatvq is imported, this checks annotated shapes on every call.
install_import_hook(
    ["flatvq.nearest.search", "flatvq.quantize", "flatvq.model", "flatvq.evaluate"], "beartype.beartype"
)

# Without a GPU, Triton kernels are tested in Triton's interpreter. The variable must be set when Triton is
# first imported, so this comes before all test modules.
with suppress(ImportError), pytest.MonkeyPatch.context() as patch:
    if not torch.cuda.is_available():
        patch.setenv("TRITON_INTERPRET", "1")
    importlib.import_module("flatvq.nearest.triton_search")
    importlib.import_module("flatvq.nearest.triton_sums")

# Programs that tests start use one thread, too: as many tests run at a time as there are cores, and on small
# tensors, threads that wait for one another double the work of a program.
os.environ["OMP_NUM_THREADS"] = "1"

# Devices besides the CPU: tests of device-dependent code run on them, too.
ACCELERATORS = ["cuda"] if torch.cuda.is_available() else []

# No deadlines, because timings are noisy; the same examples in every run, so that a failure stays a failure.
settings.register_profile("flatvq", deadline=None, derandomize=True)
settings.load_profile("flatvq")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run at most N parametrized variants of each test, evenly spread"
    parser.addoption("--variants", type=int, metavar="N", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    most = config.getoption("variants")
    if most is None:
        return
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        variants.setdefault(item.nodeid.split("[")[0], []).append(item)
    kept = {item for group in variants.values() for item in _spread(group, most)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _spread(group: list[pytest.Item], most: int) -> list[pytest.Item]:
    """Return at most so many items of a group, the first and the last among them."""
    if len(group) <= most:
        return group
    return [group[number * (len(group) - 1) // max(1, most - 1)] for number in range(most)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn off the run-time shape checks, so that flatvq's own checks see wrong shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def run_flatvq(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return exit code, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        from flatvq import cli

        monkeypatch.setattr(sys, "argv", ["flatvq", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(params=["cpu", *ACCELERATORS])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each kind of device of this machine."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """The folder of real photographs, next to the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip("the ImageNet sample is not next to this checkout")
    return folder
