"""The commitment loss from an error that the search computed: its gradients are those of PyTorch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from flatvq.quantize.commitment import commitment_loss


@pytest.mark.parametrize("weight", [1.0, 0.25, -3e-7])
def test_the_gradient_of_the_commitment_loss_is_torch_s_to_the_bit(weight, normal):
    vectors, codes = normal(500, 33), normal(500, 33, purpose=1)
    inputs = [vectors.clone().requires_grad_() for _ in range(2)]
    losses = commitment_loss(inputs[0], codes, error=torch.tensor(2.5)), F.mse_loss(inputs[1], codes)
    for loss in losses:
        (weight * loss).backward()
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    assert losses[0].item() == 2.5
    assert torch.equal(losses[1], commitment_loss(vectors, codes))


def test_the_commitment_loss_has_second_derivatives(normal):
    vectors, codes = normal(3, 2).requires_grad_(), normal(3, 2, purpose=1)
    loss = commitment_loss(vectors, codes, error=torch.tensor(1.0))
    (first,) = torch.autograd.grad(loss, vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), vectors)
    torch.testing.assert_close(second, 2 * (2 / 6) ** 2 * (vectors.detach() - codes))
