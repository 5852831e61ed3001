"""Gradients through the lookup, against matrices that are written out in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.quantize import rotation_trick, straight_through

# PyTorch uses torch.jit.script for some of these derivatives.
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
BOTH = pytest.mark.parametrize("estimator", [straight_through, rotation_trick])


def gradient(estimator, vectors, codes, upstream):
    """What reaches (vectors, codes) when `upstream` arrives at the result."""
    vectors, codes = vectors.clone().requires_grad_(), codes.clone().requires_grad_()
    estimator(vectors, codes).backward(upstream)
    return vectors.grad, codes.grad


def rotation(z, e):
    """The scaled rotation that takes z to e, in the plane of both, by Gram-Schmidt."""
    z, e = z.double(), e.double()
    u = z / z.norm()
    v = e - (e @ u) * u
    cosine, sine = e @ u / e.norm(), v.norm() / e.norm()
    v = v / v.norm()
    plane = torch.stack([u, v])  # [2, D]
    turn = torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])
    rest = torch.eye(len(z), dtype=torch.float64) - plane.T @ plane
    return e.norm() / z.norm() * (plane.T @ turn @ plane + rest)


@BOTH
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e8])
def test_value_is_the_code_bitwise(estimator, scale, normal):
    codes = normal(50, 7)
    result = estimator((normal(50, 7, purpose=1) * scale).requires_grad_(), codes)
    assert torch.equal(result, codes)


def test_straight_through_copies_the_gradient(normal):
    upstream = normal(20, 5, purpose=2)
    to_vectors, to_codes = gradient(straight_through, normal(20, 5), normal(20, 5, purpose=1), upstream)
    assert torch.equal(to_vectors, upstream)
    assert to_codes is None


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000), dim=st.integers(2, 9), long=st.floats(0.01, 100), other=st.floats(0.01, 100)
)
def test_rotation_trick_carries_the_gradient_through_the_rotation(seed, dim, long, other):
    generator = torch.Generator().manual_seed(seed)
    z, e, upstream = (torch.randn(3, dim, generator=generator) for _ in range(3))
    z, e = z * long, e * other
    to_vectors, to_codes = gradient(rotation_trick, z, e, upstream)
    assert to_codes is None
    for row in range(3):
        matrix = rotation(z[row], e[row])
        # The reference is what it says: it takes z to e, and its unscaled part is orthogonal.
        torch.testing.assert_close(matrix @ z[row].double(), e[row].double(), rtol=1e-9, atol=1e-9)
        expected = matrix.T @ upstream[row].double()
        # Near opposite directions u + v cancels, so float32's half epsilon grows by 1 / |u + v|.
        spread = (z[row] / z[row].norm() + e[row] / e[row].norm()).double().norm()
        tolerance = 1e-5 * float(expected.norm() / spread)
        torch.testing.assert_close(to_vectors[row].double(), expected, rtol=0, atol=tolerance)


def test_rotation_keeps_the_angle_between_code_and_gradient(normal):
    # The trick's purpose (Fifty et al. 2025, section 4.2): what holds at e holds at z, turned along.
    z, e, upstream = normal(30, 6), normal(30, 6, purpose=1), normal(30, 6, purpose=2)
    carried, _ = gradient(rotation_trick, z, e, upstream)
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(z, carried), cosine(e, upstream), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("z", "e"),
    [
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, -2.0], [-1.0, 2.0]),
        ([1.0, -2.0], [-3.0, 6.0]),
        ([1e-30, 0.0], [1.0, 2.0]),
    ],
)
def test_without_a_rotation_the_gradient_is_copied(z, e):
    upstream = torch.tensor([[0.3, -0.7]])
    to_vectors, _ = gradient(rotation_trick, torch.tensor([z]), torch.tensor([e]), upstream)
    assert torch.equal(to_vectors, upstream)


@pytest.mark.parametrize("nearly", [1e-3, 1e-5, 1e-6, 1e-7])
def test_nearly_opposite_vectors_have_finite_gradients(nearly):
    z = torch.tensor([[1.0, nearly, 0.0]])
    to_vectors, _ = gradient(rotation_trick, z, -2 * torch.eye(3)[:1], torch.ones(1, 3))
    # A rotation with a factor of 2 at most doubles a gradient; rounding may add the same again.
    assert float(to_vectors.norm()) < 4 * 3**0.5


def test_rows_without_a_rotation_do_not_spoil_the_others():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    e = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    to_vectors, _ = gradient(rotation_trick, z, e, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(to_vectors, torch.tensor([[1.0, 0.0], [2.0, 0.0]]))


@BOTH
@pytest.mark.parametrize("shape", [(2,), (1, 2), (3, 4)])
@pytest.mark.usefixtures("unchecked")
def test_vectors_and_codes_of_other_shapes_are_refused(estimator, shape):
    with pytest.raises(FlatvqError) as caught:
        estimator(torch.zeros(3, 2), torch.zeros(shape))
    assert f"vectors of shape [3, 2] and code_vectors of shape {list(shape)}" in str(caught.value)


def test_the_rotation_is_along_the_last_axis(normal):
    z, e, upstream = normal(2, 5, 3), normal(2, 5, 3, purpose=1), normal(2, 5, 3, purpose=2)
    flat = gradient(rotation_trick, z.flatten(0, 1), e.flatten(0, 1), upstream.flatten(0, 1))[0]
    assert torch.equal(gradient(rotation_trick, z, e, upstream)[0], flat.view(2, 5, 3))
    assert torch.equal(gradient(rotation_trick, z[0, 0], e[0, 0], upstream[0, 0])[0], flat[0])


@FORWARD_MODE
@BOTH
def test_forward_mode_derivatives_are_those_of_reverse_mode(estimator, normal):
    z, e = normal(3, 4), normal(3, 4, purpose=1)
    reverse = torch.func.jacrev(lambda x: estimator(x, e))(z)
    assert reverse.abs().sum() > 1
    torch.testing.assert_close(torch.func.jacfwd(lambda x: estimator(x, e))(z), reverse)
    value, _ = torch.func.jvp(lambda x: estimator(x, e), (z,), (z,))
    assert torch.equal(value, e)


def test_the_rotation_is_a_constant_in_second_derivatives(normal):
    z, e = normal(4, 3).double().requires_grad_(), normal(4, 3, purpose=1).double()
    matrices = torch.stack([rotation(*pair) for pair in zip(z.detach(), e, strict=True)])
    (first,) = torch.autograd.grad((rotation_trick(z, e) ** 3).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), z)
    # With y = R z and R constant: grad = R^T 3 y^2, and the gradient of |grad|^2 is R^T (6 y * 2 R grad).
    grad = torch.einsum("nij,ni->nj", matrices, 3 * e**2)
    expected = torch.einsum("nij,ni->nj", matrices, 12 * e * torch.einsum("nij,nj->ni", matrices, grad))
    torch.testing.assert_close(second, expected)
