"""Trains compiled quantizers and compares them with plain ones: `python compiled.py`; see test_compile.py."""

import copy

import torch

from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    VectorQuantizer,
    rotation_trick,
    straight_through,
)


def learn(update, metric, estimator):
    """Train a compiled quantizer and a plain one alike; compare them at every step."""
    torch.manual_seed(0)
    plain = VectorQuantizer(
        32,
        4,
        input_dim=6,
        update=update,
        metric=metric,
        estimator=estimator,
        init=DataInit(vectors_per_code=8),
        replacement=DeadCodeReplacement(every=2, fraction=0.5),
    )
    copied = copy.deepcopy(plain)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(copied, fullgraph=True, backend=counting)
    pairs = [
        (q, call, torch.optim.SGD(q.parameters(), 1e-4)) for q, call in ((plain, plain), (copied, compiled))
    ]
    for _ in range(9):
        latents, seen = torch.randn(3, 6, 8, 8), []
        for _, call, optimizer in pairs:
            inputs = latents.clone().requires_grad_()
            out = call(inputs)
            (out.quantized.square().sum() + out.codebook_loss + out.commitment_loss).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append((out.indices, out.quantized.detach(), inputs.grad, out.commitment_loss.detach()))
        *same, losses = zip(*seen, strict=True)
        assert all(torch.equal(*pair) for pair in same)
        torch.testing.assert_close(*losses, rtol=1e-6, atol=0)  # a graph adds up in an order of its own
    # One graph for all steps: neither the step's number nor an event makes another.
    assert len(graphs) == 1
    for name, value in plain.state_dict().items():
        assert torch.equal(value, copied.state_dict()[name]), name
    assert plain.codebook.events == copied.codebook.events
    assert len(plain.codebook.events) > 3
    before = {name: value.clone() for name, value in copied.state_dict().items()}
    copied.eval()
    with torch.no_grad():
        assert torch.equal(compiled(latents).indices, plain.eval()(latents).indices)
    assert all(torch.equal(value, before[name]) for name, value in copied.state_dict().items())


CASES = {
    f"{type(update).__name__}-{metric}-{estimator.__name__}": (update, metric, estimator)
    for update in (Ema(), Gradient())
    for metric in ("euclidean", "cosine")
    for estimator in (straight_through, rotation_trick)
}


if __name__ == "__main__":
    for name, case in CASES.items():
        torch._dynamo.reset()
        learn(*case)
        print("same bits:", name)  # noqa: T201
