"""The transposed convolution compared to that of PyTorch: values, gradients, number formats."""

import pytest
import torch

from flatvq.model.transposed import TransposedConv2d


def _pair(dtype=torch.float64):
    torch.manual_seed(0)
    ours = TransposedConv2d(6, 4, kernel_size=4, stride=2, padding=1).to(dtype)
    theirs = torch.nn.ConvTranspose2d(6, 4, kernel_size=4, stride=2, padding=1).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_pytorch(memory):
    images = torch.randn(3, 6, 5, 7, dtype=torch.float64).to(memory_format=memory)
    upstream = torch.randn(3, 4, 10, 14, dtype=torch.float64)
    results = []
    for layer in _pair():
        inputs = images.clone().requires_grad_()
        out = layer(inputs)
        out.backward(upstream)
        results.append((out.detach(), inputs.grad, layer.weight.grad, layer.bias.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)  # float64: only the order of sums differs


def test_autograd_agrees_with_finite_differences():
    layer, _ = _pair()
    images = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, images)


def test_under_autocast_it_computes_in_bfloat16_and_learns_in_float32():
    ours, theirs = _pair(torch.float32)
    images = torch.randn(3, 6, 5, 5)
    outs = []
    for layer in (ours, theirs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(images)
        out.float().square().sum().backward()
        outs.append(out)
    assert outs[0].dtype == outs[1].dtype == torch.bfloat16
    assert torch.equal(*outs)
    assert ours.weight.grad.dtype == ours.bias.grad.dtype == torch.float32
    # bfloat16 has 8 significant bits: 2^-8 of the largest value.
    for name in ("weight", "bias"):
        a, b = getattr(ours, name).grad, getattr(theirs, name).grad
        assert float((a - b).abs().max()) < 2**-7 * float(b.abs().max()), name


def test_frozen_parts_get_no_gradient():
    layer, _ = _pair()
    layer.weight.requires_grad_(False)
    layer(torch.randn(1, 6, 3, 3, dtype=torch.float64)).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 36.0, dtype=torch.float64))


def test_without_gradients_it_is_the_parent_class():
    ours, theirs = _pair(torch.float32)
    with torch.no_grad():
        images = torch.randn(1, 6, 4, 4)
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch calls it for forward mode
def test_functional_transforms_give_the_same_as_pytorch():
    images = torch.randn(3, 6, 5, 7, dtype=torch.float64)

    def outputs(layer):
        weights = dict(layer.named_parameters())

        def loss(weights, image):
            return torch.func.functional_call(layer, weights, (image[None],)).pow(3).sum()

        per_image = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, images)
        _, along = torch.func.jvp(layer, (images,), (images.cos(),))
        return [*per_image.values(), along]

    ours, theirs = (outputs(layer) for layer in _pair())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
