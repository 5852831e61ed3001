"""The vector quantizer as a whole: shapes, and what its parts promise to each other."""

import copy
import pickle

import pytest
import torch
from torch.nn.functional import cosine_similarity

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    KMeansInit,
    RandomInit,
    VectorQuantizer,
    rotation_trick,
    straight_through,
)

ALL = [
    pytest.mark.parametrize("metric", ["euclidean", "cosine"]),
    pytest.mark.parametrize("input_dim", [4, 6, 2]),
    pytest.mark.parametrize("estimator", [straight_through, rotation_trick]),
    pytest.mark.parametrize("update", [Ema(), Gradient()]),
]


def every(test):
    for mark in ALL:
        test = mark(test)
    return test


@every
@pytest.mark.parametrize("grid", [(), (7,), (3, 4), (2, 3, 4)])
def test_codes_of_the_indices_are_what_forward_returned(metric, input_dim, estimator, update, grid, normal):
    quantizer = VectorQuantizer(
        16, 4, input_dim=input_dim, metric=metric, estimator=estimator, update=update, init=DataInit(1)
    )
    for step in range(3):
        quantizer(normal(5, input_dim, *grid, purpose=step))
    quantizer.eval()
    latents = normal(5, input_dim, *grid, purpose=9)
    out = quantizer(latents)
    assert out.quantized.shape == latents.shape
    assert out.indices.shape == (5, *grid)
    assert out.latents.shape == out.code_vectors.shape == (5, 4, *grid)
    # Bitwise but for a linear map, which may add in another order for another number of rows.
    torch.testing.assert_close(quantizer.decode_indices(out.indices), out.quantized, rtol=0, atol=1e-6)
    if input_dim == 4:
        assert torch.equal(quantizer.decode_indices(out.indices), out.quantized)
        assert torch.equal(out.code_vectors, out.quantized)


@pytest.mark.parametrize("input_dim", [4, 6])
def test_codes_agree_with_forward_under_autocast(input_dim, normal):
    quantizer = VectorQuantizer(16, 4, input_dim=input_dim).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(normal(50, input_dim))
        codes = quantizer.decode_indices(out.indices)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes, out.quantized, rtol=0, atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("input_dim", [4, 6])
@pytest.mark.parametrize("batch", [1, 3])
def test_indices_by_brute_force(metric, input_dim, batch, normal):
    quantizer = VectorQuantizer(16, 4, input_dim=input_dim, metric=metric, init=RandomInit()).eval()
    latents = normal(batch, input_dim, 5, 6)
    out = quantizer(latents)
    for image in range(batch):
        for row in range(5):
            for column in range(6):
                vector = quantizer.project_in(latents[image, :, row, column]).double()
                codes = quantizer.codebook.weight.double()
                if metric == "cosine":
                    nearest = cosine_similarity(vector[None], codes).argmax()
                    vector = vector / vector.norm()
                else:
                    nearest = (codes - vector).square().sum(dim=1).argmin()
                assert int(out.indices[image, row, column]) == int(nearest)
                torch.testing.assert_close(
                    out.latents[image, :, row, column].double(), vector, atol=1e-6, rtol=0
                )


def test_a_map_is_its_positions_as_flat_vectors(normal):
    as_map, as_vectors = (
        VectorQuantizer(16, 4, replacement=DeadCodeReplacement(every=2, fraction=1.0)) for _ in range(2)
    )
    for step in range(6):
        latents = normal(3, 4, 5, 6, purpose=step)
        a = as_map(latents.contiguous(memory_format=torch.channels_last))
        b = as_vectors(latents.permute(0, 2, 3, 1).reshape(-1, 4))
        assert torch.equal(a.indices.flatten(), b.indices)
        assert torch.equal(a.quantized.permute(0, 2, 3, 1).reshape(-1, 4), b.quantized)
    assert torch.equal(as_map.codebook.weight, as_vectors.codebook.weight)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_relabelled_codes_relabel_the_indices(metric, normal):
    quantizer = VectorQuantizer(16, 4, metric=metric, init=RandomInit()).eval()
    before = quantizer(normal(100, 4))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    quantizer.codebook.weight.copy_(quantizer.codebook.weight[order].clone())
    after = quantizer(normal(100, 4))
    assert torch.equal(order[after.indices], before.indices)
    assert torch.equal(after.quantized, before.quantized)


def test_cosine_ignores_lengths(normal):
    quantizer = VectorQuantizer(16, 4, metric="cosine", init=RandomInit()).eval()
    latents = normal(100, 4)
    lengths = torch.rand(100, 1, generator=torch.Generator().manual_seed(0)) * 100 + 0.01
    assert torch.equal(quantizer(latents).indices, quantizer(latents * lengths).indices)
    torch.testing.assert_close(quantizer.codebook.weight.norm(dim=1), torch.ones(16))


@every
def test_copies_and_pickles_go_on_as_the_original(metric, input_dim, estimator, update, normal):
    def build():
        return VectorQuantizer(
            8,
            4,
            input_dim=input_dim,
            metric=metric,
            estimator=estimator,
            update=update,
            init=KMeansInit(5),
        )

    quantizer = build()
    # The first step only gathers: 40 vectors are wanted, 25 come.
    quantizer(normal(25, input_dim))
    copies = [copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))]
    for step in range(1, 4):
        expected = quantizer(normal(25, input_dim, purpose=step))
        for other in copies:
            assert torch.equal(other(normal(25, input_dim, purpose=step)).quantized, expected.quantized)
    for other in copies:
        assert torch.equal(other.codebook.weight, quantizer.codebook.weight)
        assert other.codebook.events == quantizer.codebook.events


@pytest.mark.parametrize("seed", [0, 1])
def test_training_is_a_function_of_the_seed(seed, normal):
    def trained(seed, elsewhere=0):
        # What others draw from torch's own generator does not matter.
        torch.manual_seed(elsewhere)
        quantizer = VectorQuantizer(16, 4, seed=seed, replacement=DeadCodeReplacement(every=2, fraction=1.0))
        for step in range(6):
            quantizer(normal(200, 4, purpose=step))
        return quantizer.codebook.weight

    assert torch.equal(trained(seed), trained(seed, elsewhere=1))
    assert not torch.equal(trained(seed), trained(seed + 1))


@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 3, 4, 4), (2, 4, 3)])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.usefixtures("unchecked")
def test_latents_of_another_width_are_refused(shape, train):
    quantizer = VectorQuantizer(16, 6).train(train)
    with pytest.raises(FlatvqError, match=r"ax[ei]s"):
        quantizer(torch.zeros(shape))


@pytest.mark.parametrize("init", [DataInit(1), KMeansInit(1), RandomInit()])
@pytest.mark.parametrize("train", [True, False])
def test_latents_that_are_not_finite_are_refused(init, train, normal):
    latents = normal(50, 4)
    latents[7, 2] = float("nan")
    quantizer = VectorQuantizer(16, 4, init=init).train(train)
    with pytest.raises(NonFiniteError):
        quantizer(latents)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"codebook_size": 0, "code_dim": 4}, "codebook_size is 0"),
        ({"codebook_size": 4, "code_dim": 0}, "code_dim is 0"),
        ({"codebook_size": 4, "code_dim": 4, "metric": "cosin"}, "cosin"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(FlatvqError, match=named):
        VectorQuantizer(**arguments)


def test_a_single_code_takes_everything(normal):
    quantizer = VectorQuantizer(1, 3, init=KMeansInit(1, iterations=0))
    out = quantizer(normal(20, 3))
    assert out.indices.tolist() == [0] * 20
    assert quantizer.codebook.counts.tolist() == pytest.approx([0.99 + 0.01 * 20])


def test_hooks_of_the_projections_are_called(normal):
    quantizer = VectorQuantizer(8, 4, input_dim=6)
    calls = []
    for part in (quantizer.project_in, quantizer.project_out):
        part.register_forward_hook(lambda module, inputs, output: calls.append(module))
    quantizer(normal(100, 6))
    assert calls == [quantizer.project_in, quantizer.project_out]


def test_projections_can_be_replaced(normal):
    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, inputs):
            return 2 * self.base(inputs)

    quantizer = VectorQuantizer(8, 4, input_dim=6).eval()
    values = normal(10, 6)
    expected = 2 * quantizer(values).latents
    quantizer.project_in = Adapted(quantizer.project_in)
    torch.testing.assert_close(quantizer(values).latents, expected)


def test_spectral_norm_by_hooks_trains_its_weight(normal):
    quantizer = VectorQuantizer(8, 4, input_dim=6)
    torch.nn.utils.spectral_norm(quantizer.project_in)
    quantizer(normal(100, 6)).commitment_loss.backward()
    assert quantizer.project_in.weight_orig.grad.abs().sum() > 0
