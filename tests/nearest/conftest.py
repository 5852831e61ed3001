"""Fixtures for the tests of the search: random numbers, and the kernels of the compiled search."""

from __future__ import annotations

import pytest
import torch

from flatvq.nearest import compiled


@pytest.fixture
def normal():
    """Draw from N(0, 1): a function of shape and purpose, the same in every run."""

    def draw(*shape, purpose=0, dtype=torch.float32):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(1000 + purpose)).to(dtype)

    return draw


@pytest.fixture(scope="session", params=compiled.KERNELS)
def kernels(request):
    """Each instruction set that the search is compiled for."""
    if reason := compiled.missing(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="session", params=compiled.METHODS)
def method(request):
    """Each method of the compiled search."""
    return request.param


@pytest.fixture(scope="session")
def fastest():
    """The fastest kernels that this processor can run."""
    for name in compiled.KERNELS:
        if not compiled.missing(name):
            return name
    pytest.skip("the compiled search cannot run here")
    return None
