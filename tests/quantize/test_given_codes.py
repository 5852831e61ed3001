"""Codes from elsewhere are kept: averaged models, partial state dicts, given codes, frozen codes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    InitEvent,
    KMeansInit,
    RandomInit,
    VectorQuantizer,
)

UPDATES = pytest.mark.parametrize("update", [Ema(), Gradient()])
SEEDINGS = pytest.mark.parametrize("init", [KMeansInit(2), DataInit(2), RandomInit()])
METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def moved(quantizer, vectors):
    """Train one step; return by which share of their length the codes moved."""
    before = quantizer.codebook.weight.detach().clone()
    quantizer.train()(vectors)
    return float((quantizer.codebook.weight.detach() - before).norm() / before.norm())


@pytest.mark.parametrize("end", ["reset_parameters", "load_state_dict"])
def test_a_new_state_ends_the_gathering_of_vectors(end, normal):
    quantizer = VectorQuantizer(16, 4, init=KMeansInit(8))
    start = copy.deepcopy(quantizer.state_dict())
    quantizer(normal(40, 4))
    assert quantizer.codebook.gathering
    quantizer.load_state_dict(start) if end == "load_state_dict" else quantizer.codebook.reset_parameters()
    assert not quantizer.codebook.gathering
    assert all(torch.equal(tensor, start[name]) for name, tensor in quantizer.state_dict().items())


@UPDATES
def test_given_codes_end_the_gathering_of_vectors(update, normal):
    """A training writes no checkpoint while a codebook gathers vectors."""
    quantizer = VectorQuantizer(16, 4, update=update, init=KMeansInit(8))
    quantizer(normal(40, 4))
    assert quantizer.codebook.gathering
    codes = normal(16, 4)
    quantizer.codebook.set_code_vectors(codes)
    assert not quantizer.codebook.gathering
    assert torch.equal(quantizer.eval().decode_indices(torch.arange(16)), codes)


@UPDATES
@pytest.mark.parametrize("arguments", [{}, {"use_buffers": True, "multi_avg_fn": get_ema_multi_avg_fn(0.9)}])
def test_training_goes_on_from_an_averaged_model(update, arguments, normal):
    def new():
        return nn.Sequential(nn.Conv2d(3, 4, 1), VectorQuantizer(16, 4, update=update, init=KMeansInit(2)))

    model = new()
    averaged = AveragedModel(model, **arguments)  # before the codebook is initialized
    for step in range(40):
        model(normal(8, 3, 4, 4, purpose=step))
        averaged.update_parameters(model)
    assert averaged.module[1].codebook.initialized
    tuned = new()
    tuned.load_state_dict(averaged.module.state_dict())
    for one in (tuned[1], averaged.module[1]):
        assert moved(one, normal(100, 4, purpose=99)) < 0.1
        assert one.codebook.events == []


@UPDATES
@METRICS
@SEEDINGS
def test_set_code_vectors_starts_from_them(update, metric, init, normal):
    quantizer = VectorQuantizer(16, 4, update=update, metric=metric, init=init)
    codes = normal(16, 4) + 10
    quantizer.codebook.set_code_vectors(codes)
    assert quantizer.codebook.events == [InitEvent(0, "set_code_vectors", 16, 0)]
    expected = nn.functional.normalize(codes) if metric == "cosine" else codes
    torch.testing.assert_close(quantizer.codebook.code_vectors.detach(), expected)
    assert quantizer(codes).indices.tolist() == list(range(16))
    assert moved(quantizer, codes) < 1e-6
    assert len(quantizer.codebook.events) == 1


def test_set_code_vectors_in_the_middle_of_a_training_starts_their_counts_anew(normal):
    quantizer = VectorQuantizer(16, 4, replacement=DeadCodeReplacement(every=1, fraction=0.9, grace=3))
    for step in range(5):
        quantizer(normal(100, 4, purpose=step))
    quantizer.codebook.set_code_vectors(normal(16, 4, purpose=9))
    assert quantizer.codebook.counts.tolist() == [1.0] * 16
    assert quantizer.codebook.births.tolist() == [5] * 16


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (torch.zeros(15, 4), FlatvqError),
        (torch.zeros(64), FlatvqError),
        (torch.zeros(16, 4, dtype=torch.int64), FlatvqError),
        (torch.full((16, 4), math.nan), NonFiniteError),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes, error):
    quantizer = VectorQuantizer(16, 4)
    before = copy.deepcopy(quantizer.state_dict())
    with pytest.raises(error):
        quantizer.codebook.set_code_vectors(codes)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@UPDATES
@SEEDINGS
def test_a_state_dict_with_codes_alone_is_a_pretrained_codebook(update, init, normal):
    quantizer = VectorQuantizer(16, 4, update=update, init=init)
    codes = normal(16, 4) + 10
    missing = quantizer.load_state_dict({"codebook.weight": codes}, strict=False).missing_keys
    assert "codebook.is_initialized" in missing
    assert quantizer.codebook.initialized
    assert moved(quantizer, codes) < 1e-6
    assert torch.equal(quantizer.codebook.weight.detach().round(decimals=4), codes.round(decimals=4))


def test_a_state_dict_without_codes_leaves_the_codebook_as_it_is(normal):
    quantizer = VectorQuantizer(16, 4, input_dim=6, init=KMeansInit(2))
    quantizer.load_state_dict({"project_in.bias": torch.zeros(4)}, strict=False)
    assert not quantizer.codebook.initialized


def test_codes_copied_into_a_codebook_without_init_are_kept(normal):
    quantizer, codes = VectorQuantizer(16, 4, init=RandomInit()), normal(16, 4) * 3 + 10
    quantizer.codebook.weight.copy_(codes)
    assert moved(quantizer, codes) < 1e-6


@pytest.mark.parametrize("init", [KMeansInit(2), DataInit(2)])
@UPDATES
def test_codes_copied_before_an_init_from_data_are_not_silently_replaced(init, update, normal):
    quantizer, codes = VectorQuantizer(16, 4, init=init, update=update), normal(16, 4)
    with torch.no_grad():
        quantizer.codebook.weight.copy_(codes)
    with pytest.raises(FlatvqError, match="set_code_vectors"):
        quantizer(normal(100, 4))
    assert torch.equal(quantizer.codebook.weight, codes)


def test_an_untrained_state_dict_of_another_seed_is_initialized_as_ever(normal):
    quantizer = VectorQuantizer(16, 4, init=KMeansInit(2), seed=0)
    quantizer.load_state_dict(VectorQuantizer(16, 4, init=KMeansInit(2), seed=1).state_dict())
    quantizer(normal(100, 4))
    assert [event.method for event in quantizer.codebook.events] == ["KMeansInit"]


# --- frozen codebooks


@UPDATES
@SEEDINGS
@METRICS
def test_a_frozen_codebook_stays_as_it_is_in_training_mode(update, init, metric, normal):
    quantizer = VectorQuantizer(
        16, 4, update=update, init=init, metric=metric, replacement=DeadCodeReplacement(every=2, fraction=2.0)
    )
    for step in range(3):
        quantizer(normal(100, 4, purpose=step))
    quantizer.codebook.freeze()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    events = len(quantizer.codebook.events)
    optimizer = torch.optim.AdamW([*quantizer.parameters(), nn.Parameter(torch.zeros(1))], weight_decay=0.5)
    for step in range(3, 9):
        vectors = (normal(100, 4, purpose=step) + 5).requires_grad_()
        out = quantizer.train()(vectors)
        (out.quantized.sum() + out.commitment_loss + out.codebook_loss).backward()
        optimizer.step()
        assert bool(vectors.grad.any())
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert len(quantizer.codebook.events) == events
    with torch.no_grad():
        assert torch.equal(out.indices, quantizer.eval()(vectors).indices)


@UPDATES
def test_freezing_travels_with_the_state_dict_and_can_be_undone(update, normal):
    first, second = (VectorQuantizer(16, 4, update=update, init=KMeansInit(2)) for _ in range(2))
    first(normal(100, 4))
    first.codebook.freeze()
    second.load_state_dict(first.state_dict())
    assert second.codebook.frozen
    assert moved(second, normal(100, 4, purpose=1)) == 0
    assert not second.codebook.weight.requires_grad
    second.codebook.freeze(False)
    assert second.codebook.weight.requires_grad == isinstance(update, Gradient)
    second.train()(normal(100, 4, purpose=1))
    assert second.codebook.step == first.codebook.step + 1


def test_codes_of_another_size_are_refused_and_change_nothing(normal):
    quantizer = VectorQuantizer(16, 4)
    with pytest.raises(RuntimeError, match=r"size mismatch for codebook\.weight"):
        quantizer.load_state_dict({"codebook.weight": normal(32, 4)}, strict=False)
    assert not quantizer.codebook.initialized


def test_loading_keeps_requires_grad_of_the_user():
    quantizer = VectorQuantizer(16, 4, update=Gradient())
    frozen = copy.deepcopy(quantizer)
    frozen.codebook.freeze()
    quantizer.requires_grad_(False)
    quantizer.load_state_dict(VectorQuantizer(16, 4, update=Gradient(), seed=1).state_dict())
    assert not quantizer.codebook.weight.requires_grad
    frozen.load_state_dict(quantizer.state_dict())  # loading ends the freeze
    assert frozen.codebook.weight.requires_grad
