"""Which loss reaches which parameter, and what the losses are."""

import pytest
import torch

from flatvq.quantize import DeadCodeReplacement, Ema, Gradient, RandomInit, VectorQuantizer, rotation_trick

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])
WIDTHS = pytest.mark.parametrize("input_dim", [4, 6])


def build(update, metric="euclidean", input_dim=4, **arguments):
    torch.manual_seed(0)
    return VectorQuantizer(
        8, 4, input_dim=input_dim, metric=metric, update=update, init=RandomInit(), **arguments
    )


def reached(quantizer, latents, value):
    """Names of what gets a gradient that is not zero from one value of the result."""
    latents = latents.clone().requires_grad_()
    parameters = {"latents": latents, **dict(quantizer.named_parameters())}
    value(quantizer(latents)).backward()
    return {
        name for name, tensor in parameters.items() if tensor.grad is not None and bool(tensor.grad.any())
    }


def random_projection(shape):
    # A plain sum would have no gradient on the sphere's rotation; random weights have.
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def projections(input_dim, *names):
    layers = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    return layers if input_dim == 6 else set()


@METRICS
@WIDTHS
def test_codebook_loss_reaches_the_codebook_only(metric, input_dim, normal):
    quantizer = build(Gradient(), metric, input_dim)
    assert reached(quantizer, normal(50, input_dim), lambda out: out.codebook_loss) == {"codebook.weight"}


@METRICS
@WIDTHS
@pytest.mark.parametrize("update", [Gradient(), Ema()])
def test_commitment_loss_reaches_the_encoder_only(metric, input_dim, update, normal):
    quantizer = build(update, metric, input_dim)
    expected = {"latents"} | projections(input_dim, "project_in")
    assert reached(quantizer, normal(50, input_dim), lambda out: out.commitment_loss) == expected


@METRICS
@WIDTHS
@pytest.mark.parametrize("update", [Gradient(), Ema()])
def test_reconstruction_reaches_everything_but_the_codebook(metric, input_dim, update, normal):
    quantizer = build(update, metric, input_dim, estimator=rotation_trick)
    weights = random_projection((50, input_dim))
    expected = {"latents"} | projections(input_dim, "project_in", "project_out")
    assert reached(quantizer, normal(50, input_dim), lambda out: (out.quantized * weights).sum()) == expected


@METRICS
@WIDTHS
def test_moving_averages_leave_no_gradient_on_the_codebook(metric, input_dim, normal):
    quantizer = build(Ema(), metric, input_dim)
    assert not any(name.startswith("codebook") for name, _ in quantizer.named_parameters())
    out = quantizer(normal(50, input_dim).requires_grad_())
    assert not out.codebook_loss.requires_grad
    assert not quantizer.codebook.weight.requires_grad


@pytest.mark.parametrize("update", [Gradient(), Ema()])
def test_what_is_for_looking_at_carries_no_gradient(update, normal):
    out = build(update)(normal(50, 4).requires_grad_())
    assert not out.latents.requires_grad
    assert not out.code_vectors.requires_grad
    assert not out.indices.requires_grad


@pytest.mark.parametrize("update", [Gradient(), Ema()])
def test_losses_by_hand(update):
    quantizer = VectorQuantizer(2, 2, update=update, init=RandomInit())
    with torch.no_grad():
        quantizer.codebook.weight.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    latents = torch.tensor([[1.0, 2.0], [9.0, 14.0], [0.0, -3.0]], requires_grad=True)
    out = quantizer(latents)
    # Differences (1, 2), (-1, 4), (0, -3): squares 1 + 4 + 1 + 16 + 0 + 9 = 31 over six numbers.
    assert out.indices.tolist() == [0, 1, 0]
    assert out.codebook_loss.item() == out.commitment_loss.item() == pytest.approx(31 / 6)
    out.commitment_loss.backward()
    assert latents.grad.flatten().tolist() == pytest.approx([2 / 6 * d for d in (1, 2, -1, 4, 0, -3)])
    if isinstance(update, Gradient):
        out.codebook_loss.backward()
        # Minus the sum of the differences of each code's vectors, times 2 / 6.
        grad = quantizer.codebook.weight.grad.flatten().tolist()
        assert grad == pytest.approx([-2 / 6, 2 / 6, 2 / 6, -8 / 6])


def test_cosine_losses_by_hand():
    quantizer = VectorQuantizer(2, 2, metric="cosine", init=RandomInit())
    quantizer.codebook.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    out = quantizer(torch.tensor([[30.0, 40.0], [5.0, 0.0]]))
    # (0.6, 0.8) is nearer to (0, 1): 0.36 + 0.04; (1, 0) is a code: 0. Over four numbers.
    assert out.indices.tolist() == [1, 0]
    assert float(out.commitment_loss) == pytest.approx(0.40 / 4)
    torch.testing.assert_close(out.latents, torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
    torch.testing.assert_close(out.code_vectors, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


@METRICS
@pytest.mark.parametrize("update", [Gradient(), Ema()])
@pytest.mark.parametrize("estimator", ["straight_through", "rotation_trick"])
def test_backward_after_codes_were_changed(metric, update, estimator, normal):
    # Each backward pass follows a forward pass that replaced codes: once its own, once a later one.
    from flatvq import quantize

    quantizer = build(
        update,
        metric,
        estimator=getattr(quantize, estimator),
        replacement=DeadCodeReplacement(every=1, fraction=1.5),
    )
    quantizer(normal(50, 4))
    first, second = (normal(50, 4, purpose=step).requires_grad_() for step in (1, 2))
    outputs = [quantizer(first), quantizer(second)]
    assert all(event.replaced > 0 for event in quantizer.codebook.events)
    sum(out.codebook_loss + out.commitment_loss + out.quantized.sum() for out in outputs).backward()
    assert bool(first.grad.any())
    assert bool(second.grad.any())
