"""Checks of arguments: valid shapes, and the errors for others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.shapes import require_axes, require_floating, require_integers

IMAGES = ("images", "B", 3, "H", "W")
LATENTS = ("latents", "B", 64, "*grid")
INDICES = ("indices", "B", "h", "w")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 3, 8, 16), IMAGES),
        ((0, 3, 8, 16), IMAGES),
        ((2, 64), LATENTS),
        ((2, 64, 5), LATENTS),
        ((2, 64, 5, 6, 7), LATENTS),
        ((1, 4, 4), INDICES),
        ((), ("losses",)),
    ],
)
def test_a_shape_that_fits_passes(shape, axes):
    require_axes(torch.zeros(shape), *axes)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((3, 256, 256), IMAGES, "images of shape [3, 256, 256] have 3 axes, not [B, 3, H, W]: "
         "add a batch axis, images[None]"),
        ((2, 8, 9, 3), IMAGES, "images of shape [2, 8, 9, 3] have size 8 in axis 1, not [B, 3, H, W]: "
         "put the channels first, images.movedim(-1, 1)"),
        ((2, 4, 8, 8), IMAGES, "images of shape [2, 4, 8, 8] have size 4 in axis 1, not [B, 3, H, W]: "
         "pass [B, 3, H, W]"),
        ((1, 2, 3, 8, 8), IMAGES, "images of shape [1, 2, 3, 8, 8] have 5 axes, not [B, 3, H, W]: "
         "pass [B, 3, H, W]"),
        ((), IMAGES, "images of shape [] have 0 axes, not [B, 3, H, W]: pass [B, 3, H, W]"),
        ((64,), LATENTS, "latents of shape [64] have 1 axis, not [B, 64, *grid]: "
         "add a batch axis, latents[None]"),
        ((2, 8, 8, 64), LATENTS, "latents of shape [2, 8, 8, 64] have size 8 in axis 1, not [B, 64, *grid]: "
         "put the channels first, latents.movedim(-1, 1)"),
        ((4, 4), INDICES, "indices of shape [4, 4] have 2 axes, not [B, h, w]: "
         "add a batch axis, indices[None]"),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_named_with_the_expected_axes(shape, axes, message):
    with pytest.raises(FlatvqError) as caught:
        require_axes(torch.zeros(shape), *axes)
    assert str(caught.value) == message


def test_the_remedies_give_shapes_that_fit():
    require_axes(torch.zeros(3, 256, 256)[None], *IMAGES)
    require_axes(torch.zeros(2, 8, 9, 3).movedim(-1, 1), *IMAGES)


@pytest.mark.parametrize(
    ("given", "kind"),
    [(np.zeros((1, 3, 8, 8)), "numpy.ndarray"), ([[0.0]], "list"), (None, "NoneType"), (3, "int")],
)
def test_what_is_not_a_tensor_is_named_by_its_type(given, kind):
    with pytest.raises(FlatvqError) as caught:
        require_axes(given, *IMAGES)
    assert str(caught.value) == f"images of type {kind} are not a tensor: pass a tensor [B, 3, H, W]"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_only_floating_point_numbers_pass_as_such(dtype):
    with pytest.raises(FlatvqError, match=f"images of dtype {str(dtype)[6:]} are not floating-point: divide"):
        require_floating(torch.zeros(2, dtype=dtype), "images", "divide them by 255")
    for good in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        require_floating(torch.zeros(2, dtype=good), "images")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64])
def test_only_integers_pass_as_such(dtype):
    with pytest.raises(FlatvqError, match=f"indices of dtype {str(dtype)[6:]} are not integers"):
        require_integers(torch.zeros(2, dtype=dtype), "indices")
    for good in (torch.uint8, torch.int16, torch.int32, torch.int64):
        require_integers(torch.zeros(2, dtype=good), "indices")


def checked(images):
    require_axes(images, *IMAGES)
    require_floating(images, "images")
    return 2 * images


def test_the_checks_leave_nothing_in_graphs_and_transforms():
    images = torch.rand(2, 3, 8, 8)
    compiled = torch.compile(checked, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images), 2 * images)
    assert torch.equal(torch.vmap(checked)(images[None]), 2 * images[None])
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        traced = torch.jit.trace(checked, images)  # comparing sizes would warn, which is an error
    assert torch.equal(traced(images), 2 * images)


def test_an_exported_program_keeps_the_batch_axis_free():
    class Module(torch.nn.Module):
        def forward(self, images):
            return checked(images)

    shapes = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Module(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=shapes).module()
    assert program(torch.rand(5, 3, 8, 8)).shape == (5, 3, 8, 8)
