"""What the tests of the quantizers share."""

from __future__ import annotations

import pytest
import torch

from flatvq.randomness import generator


@pytest.fixture
def normal():
    """Draw from N(0, 1): a function of shape and purpose, the same in every run."""

    def draw(*shape, purpose=0, dtype=torch.float32):
        return torch.randn(*shape, generator=generator(0, "tests", purpose)).to(dtype)

    return draw
