"""A training that is interrupted ends bitwise like one that is not."""

import pytest
import torch
from safetensors.torch import load_file, save_file

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

STEPS = 20
STATE = {
    *("weight", "counts", "births", "step_count", "last_event_step"),
    *("init_checksum", "is_initialized", "is_frozen"),
}


def build(metric, update, init):
    replacement = DeadCodeReplacement(every=3, start=2, stop=17, fraction=0.7, share=0.4, grace=4)
    torch.manual_seed(0)
    return VectorQuantizer(
        12,
        3,
        input_dim=5,
        metric=metric,
        update=update,
        estimator=rotation_trick,
        init=init,
        replacement=replacement,
    )


def train(quantizer, first, last):
    """Steps whose data is a function of the step, with an optimiser that has no state of its own."""
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.3)
    for step in range(first, last):
        latents = torch.randn(4, 5, 3, 3, generator=generator(1, "data", step)) + step / 10
        out = quantizer(latents)
        loss = (out.quantized - latents).square().mean() + out.codebook_loss + 0.25 * out.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("update", [Ema(decay=0.9), Gradient(decay=0.9)])
@pytest.mark.parametrize("init", [RandomInit(), DataInit(2), KMeansInit(2)])
@pytest.mark.parametrize("stop", [1, 9, 13])
def test_resumed_is_bitwise_the_same(metric, update, init, stop, tmp_path):
    whole = build(metric, update, init)
    train(whole, 0, STEPS)
    assert sum(getattr(event, "replaced", 0) for event in whole.codebook.events) > 3

    before = build(metric, update, init)
    train(before, 0, stop)
    save_file(before.state_dict(), tmp_path / "quantizer.safetensors")
    torch.manual_seed(123)
    after = build(metric, update, init)
    after.load_state_dict(load_file(tmp_path / "quantizer.safetensors"))
    train(after, stop, STEPS)

    expected, state = whole.state_dict(), after.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    assert before.codebook.events + after.codebook.events == whole.codebook.events


def test_a_state_dict_holds_tensors_only_and_all_of_the_codebook():
    quantizer = build("euclidean", Ema(), KMeansInit(2))
    train(quantizer, 0, 5)
    state = quantizer.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    names = {name.removeprefix("codebook.") for name in state if name.startswith("codebook.")}
    assert names == STATE


def test_a_resumed_codebook_is_not_initialized_again(normal):
    first, second = (VectorQuantizer(8, 3, init=KMeansInit(1)) for _ in range(2))
    first(normal(50, 3))
    second.load_state_dict(first.state_dict())
    second(normal(50, 3, purpose=1) + 100)
    assert second.codebook.events == []
    assert second.codebook.step == 2


def test_a_loaded_quantizer_says_the_same(normal):
    first, second = (VectorQuantizer(8, 3, seed=seed) for seed in (0, 1))
    first(normal(50, 3))
    second.load_state_dict(first.state_dict())
    latents = normal(2, 3, 4, 4, purpose=1)
    assert torch.equal(first.eval()(latents).quantized, second.eval()(latents).quantized)
