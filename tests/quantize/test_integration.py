"""Quantizers in the training code of others: wrapped, shared, copied and averaged codebooks lose no codes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils.data import DataLoader, Dataset

from flatvq.errors import FlatvqError
from flatvq.quantize import (
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    RandomInit,
    ResidualQuantizer,
    VectorQuantizer,
)
from flatvq.quantize.replacement import unbiased_counts

INIT = KMeansInit(vectors_per_code=2)
UPDATES = pytest.mark.parametrize("update", [Ema(), Gradient()])


def state_of(quantizer):
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def is_state(quantizer, state):
    return all(torch.equal(value, state[name]) for name, value in quantizer.state_dict().items())


@UPDATES
@pytest.mark.parametrize("given", ["set_code_vectors", "state dict"])
def test_codes_given_at_the_step_of_a_replacement_are_kept(given, update, normal):
    quantizer = VectorQuantizer(
        16, 4, update=update, init=INIT, replacement=DeadCodeReplacement(every=5, fraction=0.9)
    )
    for step in range(5):
        quantizer(normal(100, 4, purpose=step))
    codes = normal(16, 4, purpose=9) * 3 + 10
    if given == "set_code_vectors":
        quantizer.codebook.set_code_vectors(codes)
    else:
        quantizer.load_state_dict({"codebook.weight": codes}, strict=False)
    out = quantizer(codes)
    assert torch.equal(out.code_vectors, codes)
    event = quantizer.codebook.events[-1]
    assert (event.step, event.inactive, event.replaced) == (5, 0, 0)


# --- weights that are computed from others


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def doubled(codebook):
    parametrize.register_parametrization(codebook, "weight", Doubled())


def normed(codebook):
    parametrizations.weight_norm(codebook, "weight")


def pruned(codebook):
    prune.random_unstructured(codebook, "weight", amount=0.3)


@pytest.mark.parametrize("change", [doubled, normed, pruned])
def test_an_init_that_a_computed_weight_would_lose_is_refused(change, normal):
    quantizer = VectorQuantizer(16, 4, update=Gradient(), init=INIT)
    change(quantizer.codebook)
    with pytest.raises(FlatvqError, match="by a parametrization or by pruning"):
        quantizer(normal(100, 4))
    assert not quantizer.codebook.initialized
    with pytest.raises(FlatvqError, match="by a parametrization or by pruning"):
        quantizer.codebook.set_code_vectors(normal(16, 4))


def test_moving_averages_that_a_computed_weight_would_lose_are_refused(normal):
    quantizer = VectorQuantizer(16, 4, init=RandomInit())
    doubled(quantizer.codebook)
    with pytest.raises(FlatvqError, match="by a parametrization or by pruning"):
        quantizer(normal(100, 4))
    assert quantizer.codebook.counts.tolist() == [1.0] * 16
    assert quantizer.codebook.step == 0


def test_a_computed_weight_learns_by_gradients(normal):
    quantizer = VectorQuantizer(16, 4, update=Gradient(), init=RandomInit())
    original = quantizer.codebook.weight.detach().clone()
    doubled(quantizer.codebook)
    vectors = normal(100, 4)
    out = quantizer(vectors)
    assert torch.equal(out.code_vectors, 2 * original[out.indices])
    out.codebook_loss.backward()
    # By hand: d/dw of the mean of (2 w - z)^2 over 100 x 4 elements.
    expected = torch.zeros(16, 4).index_add_(0, out.indices, 4 * (out.code_vectors - vectors) / 400)
    torch.testing.assert_close(quantizer.codebook.parametrizations.weight.original.grad, expected)


def test_a_parameter_as_the_weight_of_moving_averages_is_refused(normal):
    quantizer = VectorQuantizer(16, 4, init=RandomInit())
    before = state_of(quantizer)
    with pytest.raises(FlatvqError, match="set_code_vectors"):
        quantizer.codebook.weight = nn.Parameter(normal(16, 4))
    assert is_state(quantizer, before)
    assert not list(quantizer.parameters())


# --- copies that are dropped


@UPDATES
def test_a_replica_of_data_parallel_is_not_trained(update, normal):
    quantizer = VectorQuantizer(16, 4, update=update, init=INIT)
    quantizer(normal(100, 4))
    before = state_of(quantizer)
    codebook, vectors = quantizer.codebook, normal(50, 4, purpose=1)
    replica = copy.copy(quantizer)._replicate_for_data_parallel()
    replica.codebook = codebook._replicate_for_data_parallel()
    for name, weight in codebook._parameters.items():  # as torch.nn.parallel.replicate does
        setattr(replica.codebook, name, weight.clone())
    with pytest.raises(FlatvqError, match="use DistributedDataParallel"):
        replica(vectors)
    replica.training = replica.codebook.training = False
    assert torch.equal(replica(vectors).indices, quantizer.eval()(vectors).indices)
    assert is_state(quantizer, before)


class Quantizing(Dataset):
    """Quantizes in the workers of a `DataLoader`."""

    def __init__(self, quantizer, vectors):
        self.quantizer, self.vectors = quantizer, vectors

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.quantizer(self.vectors).indices


def test_a_copy_in_a_worker_of_a_data_loader_is_not_trained(monkeypatch, normal):
    quantizer, vectors = VectorQuantizer(16, 4, init=INIT), normal(100, 4)
    quantizer(vectors)
    before = state_of(quantizer)
    monkeypatch.setattr("flatvq.quantize.codebook_state.get_worker_info", lambda: "a worker")
    loader = DataLoader(Quantizing(quantizer, vectors), batch_size=None)
    with pytest.raises(FlatvqError, match=r"worker of a DataLoader.*call eval\(\)"):
        next(iter(loader))
    assert is_state(quantizer, before)
    quantizer.eval()
    assert torch.equal(next(iter(loader)), quantizer(vectors).indices)


# --- stages of a residual quantizer that were replaced


def test_stages_behind_a_given_codebook_are_initialized(normal):
    quantizer = ResidualQuantizer(16, 4, 2, init=KMeansInit(8))
    given = VectorQuantizer(16, 4)
    given.codebook.set_code_vectors(normal(16, 4))
    quantizer.stages[0] = given
    for step in range(2):  # 128 vectors are needed
        assert not quantizer.stages[1].codebook.initialized
        quantizer(normal(100, 4, purpose=step))
    assert quantizer.stages[1].codebook.initialized


def test_stages_behind_a_frozen_codebook_are_initialized(normal):
    quantizer = ResidualQuantizer(16, 4, 2, init=KMeansInit(8))
    quantizer.stages[0].codebook.freeze()
    for step in range(2):
        quantizer(normal(100, 4, purpose=step))
    assert quantizer.stages[1].codebook.initialized


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_stages_may_share_a_codebook(shared, normal):
    quantizer = ResidualQuantizer(16, 4, 3, init=KMeansInit(8))
    codebook = quantizer.stages[shared].codebook
    for stage in quantizer.stages:
        stage.codebook = codebook
    for step in range(3):  # three passes of 20 vectors each per step, of 128 that are needed
        assert not codebook.initialized
        out = quantizer(normal(20, 4, purpose=step))
    assert codebook.initialized
    assert codebook.step == 9
    vectors = normal(20, 4, purpose=9)
    out = quantizer.eval()(vectors)
    assert torch.equal(quantizer.decode_indices(out.indices), out.quantized)
    residual = vectors
    for column in out.indices.unbind(dim=1):
        assert torch.equal(torch.cdist(residual, codebook.weight).argmin(dim=1), column)
        residual = residual - codebook.weight[column]


# --- states that tools write into buffers


def test_a_frozen_state_that_is_copied_in_place_has_no_gradient(normal):
    frozen, quantizer = (VectorQuantizer(16, 4, update=Gradient(), init=INIT) for _ in range(2))
    frozen(normal(100, 4))
    frozen.codebook.freeze()
    with torch.no_grad():  # as torch.distributed.checkpoint loads
        for value, given in zip(quantizer.state_dict().values(), frozen.state_dict().values(), strict=True):
            value.copy_(given)
    out = quantizer(normal(100, 4, purpose=1))
    assert not out.codebook_loss.requires_grad
    assert out.codebook_loss == out.commitment_loss
    quantizer.codebook.freeze(False)
    assert quantizer(normal(100, 4, purpose=1)).codebook_loss.requires_grad


def test_codes_in_use_stay_after_all_buffers_were_averaged(normal):
    def new():
        return VectorQuantizer(64, 4, init=INIT, replacement=DeadCodeReplacement(every=10))

    quantizer = new()
    averaged = AveragedModel(quantizer, use_buffers=True, avg_fn=get_ema_avg_fn(0.99))
    for step in range(100):
        quantizer(normal(30, 4, purpose=step))
        averaged.update_parameters(quantizer)
    tuned = new()
    tuned.load_state_dict(averaged.module.state_dict())
    for step in range(25):
        tuned(normal(30, 4, purpose=1000 + step))
    assert tuned.codebook.events
    assert sum(event.replaced for event in tuned.codebook.events) <= 3


def test_counts_of_other_steps_are_returned_as_they_are():
    counts, age = torch.tensor([0.5, 0.99, 1.0, 2.0]), torch.tensor([1, 1, 0, 1])
    use = unbiased_counts(counts, age, decay=0.99)
    # 0.5 < 0.99, which remains of the start; 0.99 is a code without vectors; age 0 has had no step.
    torch.testing.assert_close(use, torch.tensor([0.5, 0.0, torch.inf, 101.0]), rtol=1e-3, atol=1e-3)


@UPDATES
@pytest.mark.parametrize("name", ["vector", "residual"])
def test_code_vectors_that_a_tool_offloaded_are_named(name, update, normal):
    if name == "vector":
        quantizer = VectorQuantizer(16, 4, update=update, init=RandomInit()).eval()
        codebook = quantizer.codebook
    else:
        quantizer = ResidualQuantizer(16, 4, 2, update=update, init=RandomInit()).eval()
        codebook = quantizer.stages[0].codebook
    vectors = normal(10, 4)
    indices = quantizer(vectors).indices
    tensors = codebook._buffers if "weight" in codebook._buffers else codebook._parameters
    stored, tensors["weight"] = tensors["weight"], codebook.weight.to("meta")
    for call in (lambda: quantizer(vectors), lambda: quantizer.decode_indices(indices)):
        with pytest.raises(FlatvqError, match=r"meta device.*preload_module_classes"):
            call()
    tensors["weight"] = stored
    assert torch.equal(quantizer(vectors).indices, indices)


def test_a_loop_over_all_parameters_that_draws_them_anew_can_be_undone(normal):
    """As in `model.apply(init_weights)`, which also draws the codes."""
    quantizer = VectorQuantizer(16, 4, update=Gradient(), init=INIT)
    for parameter in quantizer.parameters():
        nn.init.xavier_uniform_(parameter, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FlatvqError, match=r"reset_parameters\(\) to start from data"):
        quantizer(normal(100, 4))
    quantizer.codebook.reset_parameters()
    quantizer(normal(100, 4))
    assert [event.method for event in quantizer.codebook.events] == ["KMeansInit"]
