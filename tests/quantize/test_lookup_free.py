"""LFQ against the definition by enumeration of all codes, and its gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tests.quantize.quantizers import latents

from flatvq.errors import FlatvqError
from flatvq.quantize import LookupFreeQuantizer


def corners(bits: int) -> torch.Tensor:
    """All code vectors [2^D, D], the first coordinate being the lowest bit."""
    rows = [list(reversed(row)) for row in itertools.product([-1.0, 1.0], repeat=bits)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_indices_are_the_nearest_corners(bits):
    lfq = LookupFreeQuantizer(bits)
    z = latents(bits, 2, 5, 4)
    out = lfq(z)
    vectors = z.movedim(1, -1).reshape(-1, bits).double()
    nearest = torch.cdist(vectors, corners(bits)).argmin(dim=1)
    assert torch.equal(out.indices.flatten(), nearest)
    assert torch.equal(out.code_vectors.movedim(1, -1).reshape(-1, bits).double(), corners(bits)[nearest])
    assert lfq.codebook_size == 2**bits
    assert lfq.bits_per_position == bits


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_entropy_loss_is_that_of_the_softmax_over_all_codes(temperature):
    bits = 4
    # All combinations of two values of each coordinate: the bits of the mean distribution are independent.
    values = [(-0.3, 0.2), (0.1, 0.4), (-0.6, -0.1), (0.05, 0.3)]
    z = torch.tensor(list(itertools.product(*values)))
    loss = LookupFreeQuantizer(bits, temperature=temperature)(z).entropy_loss
    distances = torch.cdist(z.double(), corners(bits)).square()
    probabilities = torch.softmax(-distances / temperature, dim=1)
    own = -(probabilities * probabilities.log()).sum(dim=1).mean()
    mean = probabilities.mean(dim=0)
    assert float(loss) == pytest.approx(float(own + (mean * mean.log()).sum()), abs=1e-5)


def test_the_entropy_of_the_mean_is_an_upper_bound():
    z = torch.tensor([[4.0, 4.0], [-4.0, -4.0]])  # two codes of four: the bits are not independent
    loss = LookupFreeQuantizer(2)(z).entropy_loss
    assert float(loss) == pytest.approx(-2 * math.log(2), abs=5e-3)


def test_gradients_reach_the_latents_as_each_loss_says():
    z = latents(3, 6).requires_grad_(True)
    lfq = LookupFreeQuantizer(3)
    out = lfq(z)
    weights = torch.arange(18.0).view(6, 3)
    (straight,) = torch.autograd.grad((out.quantized * weights).sum(), z, retain_graph=True)
    assert torch.equal(straight, weights)
    (commitment,) = torch.autograd.grad(out.commitment_loss, z, retain_graph=True)
    torch.testing.assert_close(commitment, 2 * (z - z.sign()).detach() / z.numel())
    (entropy,) = torch.autograd.grad(out.entropy_loss, z)
    step = 1e-3
    for row, column in ((0, 0), (3, 2)):
        moved = z.detach().clone()
        moved[row, column] += step
        higher = lfq(moved).entropy_loss
        moved[row, column] -= 2 * step
        slope = (higher - lfq(moved).entropy_loss) / (2 * step)
        assert float(entropy[row, column]) == pytest.approx(float(slope), rel=0.02, abs=2e-4)


def test_the_entropy_loss_spreads_the_codes():
    z = (latents(4, 400) * 0.1 + 0.5).requires_grad_(True)  # all bits are set at first
    lfq = LookupFreeQuantizer(4)
    assert len(lfq(z).indices.unique()) == 1
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        lfq(z).entropy_loss.backward()
        optimizer.step()
    assert len(lfq(z).indices.unique()) >= 12


@pytest.mark.parametrize(
    ("bits", "temperature"), [(0, 1.0), (63, 1.0), (2.5, 1.0), (4, 0.0), (4, float("nan"))]
)
def test_settings_out_of_range_are_refused(bits, temperature, unchecked):
    with pytest.raises(FlatvqError, match="pass a"):
        LookupFreeQuantizer(bits, temperature=temperature)


def test_many_bits():
    lfq = LookupFreeQuantizer(62)
    out = lfq(latents(62, 8))
    assert torch.equal(lfq.decode_indices(out.indices), out.quantized)
    assert int(out.indices.max()) > 2**40
