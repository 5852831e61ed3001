"""Residual quantization against stages put together by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.quantize.quantizers import latents

from flatvq.errors import FlatvqError
from flatvq.quantize import (
    DataInit,
    Ema,
    Gradient,
    KMeansInit,
    RandomInit,
    ResidualQuantizer,
    UsageCounter,
    code_usage,
)

INIT = KMeansInit(vectors_per_code=2)


def trained(stages: int = 3, **settings: object) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(16, 4, stages, init=INIT, **settings)
    for step in range(30):
        quantizer(latents(4, 64, purpose=step))
    return quantizer


def test_each_stage_finds_the_nearest_code_of_the_residual():
    quantizer = trained().eval()
    z = latents(4, 50, purpose=99)
    out = quantizer(z)
    residual = z.double()
    for number, stage in enumerate(quantizer.stages):
        vectors = stage.codebook.code_vectors.double()
        nearest = torch.cdist(residual, vectors).argmin(dim=1)
        assert torch.equal(out.indices[:, number], nearest)
        residual = residual - vectors[nearest]
    torch.testing.assert_close(z.double() - residual, out.quantized.double(), rtol=0, atol=1e-6)
    # Every further stage reconstructs better.
    errors = [float((z - trained(stages).eval()(z).quantized).square().mean()) for stages in (1, 2, 4)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_one_stage_is_a_vector_quantizer():
    residual = trained(1)
    vector = copy.deepcopy(residual.stages[0])
    z = latents(4, 2, 5, 5)
    ours, theirs = residual(z), vector(z)
    assert ours.indices.shape == (2, 1, 5, 5)
    assert torch.equal(ours.indices[:, 0], theirs.indices)
    assert torch.equal(ours.quantized, theirs.quantized)
    assert torch.equal(ours.commitment_loss, theirs.commitment_loss)


def test_the_commitment_loss_of_every_stage_reaches_the_latents():
    # With residuals of straight-through outputs only the first stage would have a gradient.
    quantizer = trained().eval()
    z = latents(4, 20, purpose=7).requires_grad_(True)
    (gradient,) = torch.autograd.grad(quantizer(z).commitment_loss, z)
    expected = torch.zeros_like(z)
    residual = z.detach()
    for stage in quantizer.stages:
        chosen = stage(residual).code_vectors
        expected += 2 * (residual - chosen) / z.numel()
        residual = residual - chosen
    torch.testing.assert_close(gradient, expected)


def test_codebooks_learn_by_gradient():
    quantizer = trained(2, update=Gradient())
    out = quantizer(latents(4, 20))
    out.codebook_loss.backward()
    for stage in quantizer.stages:
        assert float(stage.codebook.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("init", [KMeansInit(vectors_per_code=8), DataInit(vectors_per_code=8)])
def test_a_stage_is_initialized_from_residuals_of_final_codes(init):
    # Batches of 20 need seven steps for 128 vectors. Provisional codes of stage 0 leave other residuals.
    quantizer = ResidualQuantizer(16, 4, 2, init=init, update=Ema(0.99))
    first, second = (stage.codebook for stage in quantizer.stages)
    for step in range(20):
        quantizer(latents(4, 20, purpose=step))
        if not first.initialized:
            assert not second.initialized
    events = [codebook.events[0] for codebook in (first, second)]
    assert [(event.step, event.vectors) for event in events] == [(6, 128), (12, 128)]


def test_usage_of_several_codebooks():
    quantizer = trained().eval()
    counter = UsageCounter(16, quantizer.index_shape)
    mask = torch.ones(2, 5, 5, dtype=torch.bool)
    mask[0, 2:] = False
    out = quantizer(latents(4, 2, 5, 5), mask=mask)
    counter.add(out.indices, mask)
    expected = torch.zeros(3, 16, dtype=torch.int64)
    for batch, row, column in mask.nonzero().tolist():
        for stage in range(3):
            expected[stage, out.indices[batch, stage, row, column]] += 1
    assert torch.equal(counter.counts, expected)
    usage = counter.summary()
    alone = [code_usage(row) for row in expected]
    assert usage.used_codes == sum(one.used_codes for one in alone)
    assert usage.usage == pytest.approx(usage.used_codes / 48)
    assert usage.codes_for_99 == sum(one.codes_for_99 for one in alone)
    assert 3 * usage.effective_bits == pytest.approx(sum(one.effective_bits for one in alone))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((16, 4, 0), {}, "stages is 0"),
        ((0, 4, 2), {}, "codebook_size is 0"),
        ((16, 4, 2), {"metric": "cosine"}, "no setting metric"),
        ((16, 4, 2), {"input_dim": 8}, "no setting input_dim"),
        *[((16, 4, 2), {"seed": value}, f"seed is {value!r}") for value in (-1, 2.5, "4", True)],
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused(arguments, settings, message):
    with pytest.raises(FlatvqError, match=message):
        ResidualQuantizer(*arguments, **settings)


def test_stages_draw_different_codes():
    quantizer = ResidualQuantizer(16, 4, 2, init=RandomInit())
    assert not torch.equal(quantizer.stages[0].codebook.weight, quantizer.stages[1].codebook.weight)
