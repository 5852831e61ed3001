"""A folder of perceptual weights, as a user would place them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.evaluate.networks import (
    ALEXNET,
    HEADS,
    INCEPTION,
    TinyInception,
    alexnet_state,
    heads_state,
    save_script,
)


@pytest.fixture(scope="session")
def perceptual_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights under their published names."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(alexnet_state(), folder / ALEXNET)
    torch.save(heads_state(), folder / HEADS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_script(TinyInception(), folder / INCEPTION)
    return folder
