"""Saves or loads programs made of every quantizer; see test_guarantees.py.

python -m tests.quantize.programs save|load FOLDER
"""

import sys
from pathlib import Path

import torch
from tests.quantize.quantizers import BUILDERS, Encode, latents, trained

from flatvq.quantize import VectorQuantizer


def equal(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    return torch.equal(one[0], other[0])


def save(folder, name, number):
    """Export, trace, compile and transform a quantizer."""
    model = Encode(trained(name).eval())
    width = model.quantizer.input_dim
    inputs, others = latents(width, 2, 3, 3), latents(width, 2, 3, 3, purpose=5)
    expected = model(others)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    exported = torch.export.export(model, (inputs,), dynamic_shapes={"inputs": sizes})
    assert equal(exported.module()(others), expected)
    larger = latents(width, 5, 4, 7)
    assert equal(exported.module()(larger), model(larger))
    torch.export.save(exported, folder / f"{number}.pt2")
    traced = torch.jit.trace(model, inputs)
    assert equal(traced(others), expected)
    traced.save(folder / f"{number}.pt")
    torch.save((others, expected), folder / f"{number}.expected")
    torch.compiler.reset()  # the number of models that one function is compiled for is limited
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert equal(compiled(others), expected)

    def loss(one):
        out = model.quantizer(one[None])
        return 3 * out.commitment_loss + out.quantized.square().sum()

    alone = []
    for one in others:
        leaf = one.clone().requires_grad_()
        alone += torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(others), torch.stack(alone))


def load(folder, name, number):
    """Run what another process saved, with other codebooks around."""
    others, expected = torch.load(folder / f"{number}.expected")
    assert equal(torch.export.load(folder / f"{number}.pt2").module()(others), expected)
    assert equal(torch.jit.load(folder / f"{number}.pt")(others), expected)


if __name__ == "__main__":
    part, folder = {"save": save, "load": load}[sys.argv[1]], Path(sys.argv[2])
    kept = [VectorQuantizer(8, 4, metric="cosine") for _ in range(40)] if part is load else []
    for position, quantizer in enumerate(BUILDERS):
        part(folder, quantizer, position)
        print("same indices:", quantizer)  # noqa: T201
