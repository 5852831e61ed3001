"""Quantizers on each device of this machine: the same codes as on the CPU, and the same bits at every run."""

import pytest
import torch

from flatvq.nearest import code_sums
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    VectorQuantizer,
    rotation_trick,
    straight_through,
)

STEPS = 8


@pytest.fixture
def repeatable(monkeypatch):
    """Ask torch for the same bits at every run, as a training on a GPU does."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def learn(device, normal, *, size=64, dim=4, rows=2048, **options):
    """Train a quantizer on data that is a function of the step; return it and what it gave out."""
    quantizer = VectorQuantizer(size, dim, input_dim=dim + 2, **options)
    for name, weights in quantizer.named_parameters():
        if name.startswith("project"):
            weights.data = normal(*weights.shape, purpose=7) / 2
    quantizer.to(device)
    optimizer, seen = torch.optim.SGD(quantizer.parameters(), 1e-2), []
    for step in range(STEPS):
        latents = normal(rows, dim + 2, purpose=step).to(device).requires_grad_()
        out = quantizer(latents)
        (out.quantized.square().mean() + out.codebook_loss + out.commitment_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append([tensor.detach().cpu() for tensor in (out.indices, out.quantized, latents.grad)])
    return quantizer, seen


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("update", [Ema(), Gradient()], ids=["ema", "gradient"])
@pytest.mark.parametrize("estimator", [straight_through, rotation_trick])
def test_learns_what_it_learns_on_the_cpu(device, metric, update, estimator, normal):
    options = {
        "metric": metric,
        "update": update,
        "estimator": estimator,
        "init": DataInit(vectors_per_code=20),
        "replacement": DeadCodeReplacement(every=3, fraction=0.5),
    }
    ours, seen = learn(device, normal, **options)
    expected, reference = learn(torch.device("cpu"), normal, **options)
    assert ours.codebook.weight.device.type == device.type
    for (indices, quantized, gradient), (nearest, codes, slope) in zip(seen, reference, strict=True):
        # A vector that lies between two codes within rounding may go to either.
        same = indices == nearest
        assert float(same.float().mean()) > 0.995
        torch.testing.assert_close(quantized[same], codes[same], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(gradient[same], slope[same], rtol=1e-2, atol=1e-4)
    assert [type(event) for event in ours.codebook.events] == [
        type(event) for event in expected.codebook.events
    ]
    assert len(ours.codebook.events) >= 3
    moved = (ours.codebook.weight.detach().cpu() - expected.codebook.weight.detach()).abs().amax(dim=1)
    assert float(moved.median()) < 1e-3


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("init", [DataInit(20), KMeansInit(20)], ids=["data", "kmeans"])
@pytest.mark.parametrize("update", [Ema(), Gradient()], ids=["ema", "gradient"])
def test_every_run_gives_the_same_bits(device, update, init, normal):
    options = {
        "update": update,
        "init": init,
        "replacement": DeadCodeReplacement(every=2, fraction=0.5),
        "dim": 16,
    }
    (one, first), (other, second) = (learn(device, normal, **options) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for mine, theirs in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.usefixtures("repeatable")
def test_sums_of_a_collapsed_codebook_are_the_same_bits_too(device, normal):
    # Most vectors go to one code: where sums are atomic, those collide the most.
    vectors = normal(20_000, 16).to(device)
    indices = (normal(20_000, purpose=1) > 2).long().to(device)
    runs = [code_sums(vectors, indices, 3) for _ in range(5)]
    for counts, sums in runs[1:]:
        assert torch.equal(counts, runs[0][0])
        assert torch.equal(sums, runs[0][1])
    exact = torch.stack([vectors.double().cpu()[indices.cpu() == code].sum(dim=0) for code in range(3)])
    torch.testing.assert_close(runs[0][1].cpu().double(), exact, rtol=1e-4, atol=1e-2)
    assert runs[0][0].tolist() == [float((indices == code).sum()) for code in range(3)]


def test_state_moves_between_devices(device, normal):
    ours, _ = learn(device, normal, init=DataInit(20))
    moved, here = ours.cpu().eval(), normal(500, 6, purpose=99)
    there = VectorQuantizer(64, 4, input_dim=6).to(device)
    there.load_state_dict(moved.state_dict())
    same = moved(here).indices == there.eval()(here.to(device)).indices.cpu()
    assert float(same.float().mean()) > 0.995
