"""Finite scalar quantization against numpy and the paper's formulas."""

import math

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.quantize import FiniteScalarQuantizer

LEVELS = pytest.mark.parametrize(
    "levels", [(2,), (3,), (2, 2, 2), (8, 5, 5, 5), (7, 5, 3), (4, 3, 2, 6), (8, 6, 5), (1000,)]
)
MARGIN = 5e-4


def every_index(levels):
    return torch.arange(math.prod(levels))


def by_numpy(latents, levels):
    """One coordinate at a time, in float64: (indices, quantized) of [N, D]."""
    digits, quantized = [], []
    for z, count in zip(latents.double().numpy().T, levels, strict=True):
        half_width = (count - 1) / 2 + MARGIN
        offset = 0.5 if count % 2 == 0 else 0.0
        rounded = np.rint(np.tanh(z + np.arctanh(offset / half_width)) * half_width - offset)
        digits.append(rounded.astype(int) + count // 2)
        quantized.append(rounded / (count // 2))
    # The first coordinate counts fastest.
    return np.ravel_multi_index(digits, levels, order="F"), np.stack(quantized, axis=1)


@LEVELS
def test_agrees_with_numpy(levels, normal):
    latents = 2 * normal(500, len(levels))
    out = FiniteScalarQuantizer(levels)(latents)
    indices, quantized = by_numpy(latents, levels)
    assert out.indices.tolist() == indices.tolist()
    torch.testing.assert_close(out.quantized.double(), torch.from_numpy(quantized))


@LEVELS
def test_indices_and_codes_are_a_bijection(levels):
    quantizer = FiniteScalarQuantizer(levels)
    codes = quantizer.decode_indices(every_index(levels))
    assert quantizer.codebook_size == len(codes) == math.prod(levels)
    assert len({tuple(code) for code in codes.tolist()}) == len(codes)
    digits = np.stack(np.unravel_index(every_index(levels).numpy(), levels, order="F"), axis=1)
    half = np.array(levels) // 2
    assert codes.tolist() == ((digits - half) / half).astype(np.float32).tolist()


@LEVELS
def test_forward_reaches_every_code_and_agrees_with_codes(levels):
    quantizer = FiniteScalarQuantizer(levels)
    # The middle of each level's interval, by the inverse of the squashing.
    codes = quantizer.decode_indices(every_index(levels)).double().numpy()
    half_width = (np.array(levels) - 1) / 2 + MARGIN
    offset = np.where(np.array(levels) % 2 == 0, 0.5, 0.0)
    inside = np.clip((codes * (np.array(levels) // 2) + offset) / half_width, -1 + 1e-9, 1 - 1e-9)
    latents = torch.from_numpy(np.arctanh(inside) - np.arctanh(offset / half_width))
    out = quantizer(latents)
    assert torch.equal(out.indices, every_index(levels))
    assert torch.equal(out.quantized, quantizer.decode_indices(out.indices).double())
    assert torch.equal(out.code_vectors, quantizer.decode_indices(out.indices))


@pytest.mark.parametrize("count", [*range(2, 12), 64, 65])
def test_a_coordinate_takes_exactly_its_levels(count):
    sweep = torch.linspace(-12, 12, 100_001)[:, None]
    out = FiniteScalarQuantizer([count])(sweep)
    assert out.indices.unique().tolist() == list(range(count))
    assert bool((out.indices.diff() >= 0).all())
    assert float(out.quantized.min()) == -1.0
    assert float(out.quantized.max()) == pytest.approx(((count - 1) - count // 2) / (count // 2))


@pytest.mark.parametrize("count", [2, 3, 1000, 1001, 1002, 1024, 4097, 20_000])
@pytest.mark.parametrize("extreme", [30.0, 1e30])
def test_extreme_latents_stay_on_the_outermost_levels(count, extreme):
    out = FiniteScalarQuantizer([count])(torch.tensor([[-extreme], [extreme]]))
    assert out.indices.tolist() == [0, count - 1]


@pytest.mark.parametrize("grid", [(), (5,), (3, 4), (2, 3, 4)])
def test_shapes(grid, normal):
    quantizer = FiniteScalarQuantizer([8, 5, 5])
    latents = normal(2, 3, *grid)
    out = quantizer(latents)
    assert out.quantized.shape == out.latents.shape == out.code_vectors.shape == latents.shape
    assert out.indices.shape == (2, *grid)
    assert quantizer.decode_indices(out.indices).shape == latents.shape
    as_vectors = quantizer(latents.movedim(1, -1).reshape(-1, 3))
    assert torch.equal(out.indices.flatten(), as_vectors.indices)


@LEVELS
def test_gradient_is_that_of_the_squashing(levels, normal):
    latents = normal(40, len(levels)).requires_grad_()
    upstream = normal(40, len(levels), purpose=1)
    FiniteScalarQuantizer(levels)(latents).quantized.backward(upstream)
    z = latents.detach().double()
    count = torch.tensor(levels)
    half_width = (count.double() - 1) / 2 + MARGIN
    offset = torch.where(count % 2 == 0, 0.5, 0.0).double()
    slope = half_width / (z + torch.atanh(offset / half_width)).cosh() ** 2 / (count // 2)
    torch.testing.assert_close(latents.grad.double(), upstream.double() * slope, rtol=1e-4, atol=1e-6)


def test_losses_are_zero_and_the_result_is_detached_where_it_is_for_looking_at(normal):
    out = FiniteScalarQuantizer([8, 5])(normal(6, 2).requires_grad_())
    assert float(out.codebook_loss) == float(out.commitment_loss) == 0.0
    assert out.quantized.requires_grad
    assert not out.latents.requires_grad
    assert not out.code_vectors.requires_grad


def test_error_between_latents_and_codes_is_at_most_half_a_level(normal):
    out = FiniteScalarQuantizer([5, 8])(3 * normal(1000, 2))
    # Levels are 1 / 2 and 1 / 4 apart. The squashing reaches past the outermost ones by half a level at most.
    error = (out.latents - out.code_vectors).abs().max(dim=0).values
    assert float(error[0]) <= 0.25
    assert float(error[1]) <= 0.125


def test_state_dict_is_empty():
    assert FiniteScalarQuantizer([8, 5]).state_dict() == {}


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.usefixtures("unchecked")
def test_latents_of_another_width_are_refused(channels):
    with pytest.raises(FlatvqError, match="axis"):
        FiniteScalarQuantizer([8, 5, 5, 5])(torch.zeros(2, channels, 3, 3))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "levels is empty"),
        (8, "levels is 8: pass a list"),
        (None, "levels is None: pass a list"),
        ({8, 5}, "pass a list"),
        (frozenset([8]), "pass a list"),
        ([8, 1], r"levels\[1\] is 1"),
        ([0], r"levels\[0\] is 0"),
        ([-3, 5], r"levels\[0\] is -3"),
        ([8, 5.5], r"levels\[1\] is 5.5"),
        ([2**17], r"levels\[0\] is 131072"),
        ([8] * 22, "2\\^66 codes"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_levels_that_make_no_lattice_are_refused(levels, message):
    with pytest.raises(FlatvqError, match=message):
        FiniteScalarQuantizer(levels)


def test_the_most_codes_that_int64_can_number():
    fsq = FiniteScalarQuantizer([8] * 21)
    out = fsq(torch.full((1, 21), 30.0))
    assert out.indices.tolist() == [2**63 - 1]
    assert torch.equal(fsq.decode_indices(out.indices), out.quantized)
