"""Moving averages against the paper's equations in a plain numpy loop."""

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.quantize import Ema, Gradient, RandomInit, VectorQuantizer


class PaperEma:
    """van den Oord et al. 2017, appendix A.1, one code and one vector at a time, in float64."""

    def __init__(self, codes, gamma, epsilon, unit_length):
        self.codes = codes.double().numpy().copy()
        self.sums, self.counts = self.codes.copy(), np.ones(len(codes))
        self.gamma, self.epsilon, self.unit_length = gamma, epsilon, unit_length

    def step(self, vectors):
        vectors = vectors.double().numpy()
        if self.unit_length:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        indices = [int(((self.codes - vector) ** 2).sum(axis=1).argmin()) for vector in vectors]
        for code in range(len(self.codes)):
            mine = [vector for vector, index in zip(vectors, indices, strict=True) if index == code]
            self.counts[code] = self.gamma * self.counts[code] + (1 - self.gamma) * len(mine)
            self.sums[code] = self.gamma * self.sums[code] + (1 - self.gamma) * sum(
                mine, np.zeros(vectors.shape[1])
            )
        total = self.counts.sum()
        for code in range(len(self.codes)):
            count = (self.counts[code] + self.epsilon) / (total + len(self.codes) * self.epsilon) * total
            self.codes[code] = self.sums[code] / count
            if self.unit_length:
                self.codes[code] /= np.linalg.norm(self.codes[code])
        return indices


def state(quantizer):
    return {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("gamma", "epsilon"), [(0.99, 1e-5), (0.6, 0.1)])
def test_follows_the_papers_equations(metric, gamma, epsilon, normal):
    update = Ema(decay=gamma, epsilon=epsilon)
    quantizer = VectorQuantizer(7, 3, metric=metric, update=update, init=RandomInit())
    paper = PaperEma(quantizer.codebook.weight, gamma, epsilon, unit_length=metric == "cosine")
    for step in range(8):
        latents = normal(2, 3, 5, 4, purpose=step) + 0.3 * step
        indices = paper.step(latents.movedim(1, -1).reshape(-1, 3))
        assert quantizer(latents).indices.flatten().tolist() == indices
        # Float32 state against float64: eight steps of a few roundings each.
        for name, expected in ("code_vectors", paper.codes), ("counts", paper.counts):
            mine = getattr(quantizer.codebook, name).double()
            torch.testing.assert_close(mine, torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


def test_gradient_mode_counts_the_same_way(normal):
    arguments = {"codebook_size": 6, "code_dim": 3, "init": RandomInit()}
    ema, gradient = (VectorQuantizer(**arguments, update=kind(decay=0.9)) for kind in (Ema, Gradient))
    latents = normal(40, 3)
    assert torch.equal(ema(latents).indices, gradient(latents).indices)
    assert torch.equal(ema.codebook.counts, gradient.codebook.counts)
    assert not torch.equal(ema.codebook.weight, gradient.codebook.weight)


@pytest.mark.parametrize("update", [Ema(), Gradient()])
def test_state_moves_in_training_and_never_in_eval(update, normal):
    quantizer = VectorQuantizer(8, 3, update=update, init=RandomInit())
    fresh = state(quantizer)
    quantizer.eval()(normal(50, 3))
    assert same(state(quantizer), fresh)
    quantizer.train()(normal(50, 3))
    moved = state(quantizer)
    assert not torch.equal(moved["codebook.counts"], fresh["codebook.counts"])
    quantizer.eval()(normal(50, 3, purpose=1))
    assert same(state(quantizer), moved)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_autocast_leaves_the_codebook_in_float32(metric, normal):
    with_autocast, without = (VectorQuantizer(8, 3, metric=metric, input_dim=5, seed=1) for _ in range(2))
    without.load_state_dict(with_autocast.state_dict())
    for step in range(4):
        latents = normal(40, 5, purpose=step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with_autocast(latents)
        without(latents)
    assert {tensor.dtype for tensor in with_autocast.codebook.buffers()} == {
        torch.float32,
        torch.int64,
        torch.bool,
    }
    assert same(state(with_autocast), state(without))


def test_bfloat16_latents_give_a_float32_codebook_and_bfloat16_codes(normal):
    quantizer = VectorQuantizer(8, 3)
    latents = normal(40, 3, dtype=torch.bfloat16)
    out = quantizer(latents)
    assert out.quantized.dtype == torch.bfloat16
    assert out.latents.dtype == out.code_vectors.dtype == out.commitment_loss.dtype == torch.float32
    assert torch.equal(out.latents, latents.float())
    assert quantizer.codebook.weight.dtype == torch.float32


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_codes_that_are_never_used_stay_finite_and_cosine_codes_keep_their_length(metric):
    # With 0.5^t the float32 state of an unused code underflows after 150 steps.
    quantizer = VectorQuantizer(4, 3, metric=metric, update=Ema(decay=0.5), init=RandomInit())
    first = quantizer.codebook.weight.clone()
    for _ in range(400):
        out = quantizer(torch.tensor([[1.0, 0.2, 0.1]]))
    codes = quantizer.codebook.code_vectors
    assert bool(codes.isfinite().all())
    if metric == "cosine":
        unused = [code for code in range(4) if code != int(out.indices)]
        torch.testing.assert_close(codes.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(codes[unused], first[unused])


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5])
def test_decay_outside_zero_to_one_is_refused(decay):
    with pytest.raises(FlatvqError, match=str(decay)):
        Ema(decay=decay)
