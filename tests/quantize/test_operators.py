"""A training step dispatches no more operators than that of vector-quantize-pytorch.

On a GPU, an operator that is not a view launches at least one kernel, which bounds the step of a small model.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from benchmarks.contenders import peer_quantizer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flatvq.quantize import DeadCodeReplacement, Quantized, VectorQuantizer
from flatvq.quantize.init import KMeansInit

VIEWS = {"alias", "detach", "expand", "lift_fresh", "permute", "slice", "t", "unsqueeze", "view"}


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators[func.__name__.partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def operators_of_a_step(quantizer: nn.Module) -> Counter[str]:
    """Count the operators of forward, moving averages and backward, after the init of the codebook."""
    vectors = torch.randn(1024, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    counting = Counting()
    for step in range(4):
        with counting if step == 3 else torch.enable_grad():
            out = quantizer(vectors)
            ours = isinstance(out, Quantized)
            total = out.quantized.sum() + out.commitment_loss if ours else out[0].sum() + out[2].sum()
            total.backward()
    return counting.operators


@pytest.mark.parametrize("views", [True, False])
def test_a_step_dispatches_no_more_operators_than_the_peers(views: bool) -> None:
    replacement = DeadCodeReplacement(every=10)
    ours = VectorQuantizer(64, 8, init=KMeansInit(vectors_per_code=1), replacement=replacement)
    counts = [
        sum(count for name, count in operators.items() if views or name not in VIEWS)
        for operators in map(operators_of_a_step, (ours, peer_quantizer(64, 8)))
    ]
    assert 0 < counts[0] <= counts[1]
