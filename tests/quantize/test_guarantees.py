"""What every quantizer guarantees, whatever its kind: one list, tried on each of them."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.quantize.quantizers import BUILDERS, Encode, latents, trained
from torch.utils.checkpoint import checkpoint

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.quantize import VectorQuantizer

EVERY = pytest.mark.parametrize("name", BUILDERS)
WITHOUT_STATE = ("scalar", "lookup-free")
# PyTorch uses torch.jit.script for some of these derivatives.
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
MODES = pytest.mark.parametrize("train", [True, False])


def indices_of(quantizer, values):
    """Give every index of a position the same value: [B, *grid] to [B, *index_shape, *grid]."""
    values = torch.as_tensor(values)
    for size in quantizer.index_shape:
        values = values[:, None].expand(len(values), size, *values.shape[1:])
    return values


def losses(out):
    return torch.stack([out.commitment_loss, out.codebook_loss, out.entropy_loss])


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_same_output(one, other):
    for field in one.__dataclass_fields__:
        assert torch.equal(getattr(one, field), getattr(other, field)), field


# --- inputs that do not fit


@EVERY
@MODES
@pytest.mark.parametrize("shape", [(), (5,), (5, 99), (2, 99, 3, 3)])
@pytest.mark.usefixtures("unchecked")
def test_other_axes_are_refused_and_named(name, train, shape):
    quantizer = trained(name).train(train)
    before = state(quantizer)
    with pytest.raises(FlatvqError) as caught:
        quantizer(torch.zeros(shape))
    assert f"shape {list(shape)}" in str(caught.value)
    assert f"[B, {quantizer.input_dim}, *grid]" in str(caught.value)
    assert same(state(quantizer), before)


@EVERY
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
@pytest.mark.usefixtures("unchecked")
def test_latents_that_are_no_floats_are_refused(name, dtype):
    quantizer = trained(name).eval()
    with pytest.raises(FlatvqError, match="floating"):
        quantizer(torch.ones(2, quantizer.input_dim, dtype=dtype))


@EVERY
@pytest.mark.parametrize("other", [[[0.0] * 4], np.zeros((1, 4), np.float32), None])
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_tensor_is_refused(name, other):
    with pytest.raises(FlatvqError, match="not a tensor"):
        trained(name)(other)
    with pytest.raises(FlatvqError, match="not a tensor"):
        trained(name).decode_indices(other)


@EVERY
@MODES
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_values_that_are_not_finite_are_refused_and_teach_nothing(name, train, value, place):
    quantizer = trained(name).train(train)
    before = state(quantizer)
    bad = latents(quantizer.input_dim, 2, 3, 3)
    bad.view(-1)[place] = value
    with pytest.raises(NonFiniteError):
        quantizer(bad)
    assert same(state(quantizer), before)


@EVERY
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_initialize_nothing(name, value):
    quantizer = BUILDERS[name]()
    before = state(quantizer)
    bad = latents(quantizer.input_dim, 8, 3, 3)
    bad.view(-1)[-1] = value
    with pytest.raises(NonFiniteError):
        quantizer(bad)
    assert same(state(quantizer), before)


@EVERY
def test_huge_values_are_no_infinity(name):
    quantizer = trained(name).eval()
    huge = 1e37 * latents(quantizer.input_dim, 40)
    assert bool(huge.isfinite().all())
    assert bool(quantizer(huge).quantized.isfinite().all())


@EVERY
def test_latents_on_another_device_are_refused(name):
    if name in WITHOUT_STATE:
        pytest.skip("without state it works on any device")
    quantizer = trained(name).eval()
    with pytest.raises(FlatvqError, match="on meta"):
        quantizer(torch.zeros(2, quantizer.input_dim, device="meta"))
    with pytest.raises(FlatvqError, match="on meta"):
        quantizer.decode_indices(indices_of(quantizer, torch.zeros(2, dtype=torch.int64, device="meta")))


@EVERY
def test_a_mask_on_another_device_is_refused(name):
    quantizer = trained(name)
    mask = torch.ones(2, 3, dtype=torch.bool, device="meta")
    with pytest.raises(FlatvqError, match="mask is on meta"):
        quantizer(latents(quantizer.input_dim, 2, 3), mask=mask)
    with pytest.raises(FlatvqError, match="mask is on meta"):
        quantizer.decode_indices(indices_of(quantizer, torch.zeros(2, 3, dtype=torch.int64)), mask=mask)


# --- indices


@EVERY
@pytest.mark.parametrize("offset", [0, 1, -1])
def test_indices_outside_the_codebook_are_refused(name, offset):
    quantizer = trained(name)
    bad = quantizer.codebook_size + offset if offset >= 0 else offset
    with pytest.raises(FlatvqError, match=f"index {bad} is outside a codebook of {quantizer.codebook_size}"):
        quantizer.decode_indices(indices_of(quantizer, [[0, bad]]))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
@pytest.mark.usefixtures("unchecked")
def test_indices_that_are_no_integers_are_refused(name, dtype):
    quantizer = trained(name)
    with pytest.raises(FlatvqError, match="not integers"):
        quantizer.decode_indices(indices_of(quantizer, torch.zeros(2, 3, dtype=dtype)))


@EVERY
@pytest.mark.usefixtures("unchecked")
def test_an_index_without_an_axis_is_refused(name):
    with pytest.raises(FlatvqError, match=r"\[B, .*\*grid\]"):
        trained(name).decode_indices(torch.tensor(0))


@EVERY
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint64])
def test_any_integers_are_indices(name, dtype):
    quantizer = trained(name).eval()
    out = quantizer(latents(quantizer.input_dim, 2, 3, 3))
    torch.testing.assert_close(
        quantizer.decode_indices(out.indices.to(dtype)), out.quantized, rtol=0, atol=1e-6
    )


# --- number formats


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@MODES
def test_state_stays_float32_and_outputs_follow_the_inputs(name, dtype, train):
    quantizer, plain = trained(name).train(train), trained(name).train(train)
    before = state(quantizer)
    quantizer.to(dtype)
    assert same(state(quantizer), before)
    inputs = latents(quantizer.input_dim, 8, 3, 3, purpose=7).to(dtype)
    out, expected = quantizer(inputs), plain(inputs.float())
    assert out.quantized.dtype == dtype
    assert torch.equal(out.indices, expected.indices)
    assert torch.equal(out.quantized, expected.quantized.to(dtype))
    assert same(state(quantizer), state(plain))
    assert quantizer.decode_indices(out.indices).dtype == torch.float32


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_state_dict_of_another_dtype_is_converted(name, dtype):
    rounded = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in trained(name).state_dict().items()
    }
    for assign in (False, True):
        quantizer = BUILDERS[name]()
        quantizer.load_state_dict(rounded, assign=assign)
        tensors = quantizer.state_dict()
        assert {t.dtype for t in tensors.values() if t.is_floating_point()} <= {torch.float32}
        quantizer(latents(quantizer.input_dim, 8, 3, 3))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torch_s_default_dtype_changes_nothing(name, dtype):
    expected = trained(name)
    torch.set_default_dtype(dtype)
    try:
        quantizer = trained(name)
        out = quantizer.eval()(latents(quantizer.input_dim, 2, 3, 3))
        codes = quantizer.decode_indices(out.indices)
    finally:
        torch.set_default_dtype(torch.float32)
    if "projected" not in name:  # a linear layer draws its weights in the default dtype's own way
        assert same(state(quantizer), state(expected))
    assert codes.dtype == torch.float32
    for field in out.__dataclass_fields__:
        assert getattr(out, field).dtype == (torch.int64 if field == "indices" else torch.float32), field


@EVERY
def test_autocast_changes_nothing(name):
    quantizer, plain = trained(name), trained(name)
    inputs = latents(quantizer.input_dim, 8, 3, 3, purpose=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(inputs)
    assert_same_output(out, plain(inputs))
    assert same(state(quantizer), state(plain))


# --- the meta device


@EVERY
def test_a_quantizer_built_on_the_meta_device_is_loaded(name):
    original = trained(name).eval()
    inputs = latents(original.input_dim, 2, 3, 3)
    with torch.device("meta"):
        assigned, emptied = BUILDERS[name]().eval(), BUILDERS[name]().eval()
    assert all(tensor.is_meta for tensor in assigned.state_dict().values())
    assert assigned(inputs.to("meta")).quantized.shape == inputs.shape
    assigned.load_state_dict(original.state_dict(), assign=True)
    emptied.to_empty(device="cpu").load_state_dict(original.state_dict())
    for loaded in (assigned, emptied):
        assert_same_output(loaded(inputs), original(inputs))


def test_a_codebook_from_the_meta_device_starts_like_any_other():
    for update_name in ("ema", "gradient"):
        with torch.device("meta"):
            quantizer = BUILDERS[update_name]()
        quantizer.to_empty(device="cpu").codebook.reset_parameters()
        assert same(state(quantizer), state(BUILDERS[update_name]()))


# --- nothing to quantize, and masks


@EVERY
@MODES
@pytest.mark.parametrize("shape", [(0,), (0, 3, 3), (2, 0, 3)])
def test_without_vectors_the_losses_are_zero_with_a_graph(name, train, shape):
    quantizer = trained(name).train(train)
    before = state(quantizer)
    inputs = latents(quantizer.input_dim, *shape).requires_grad_()
    out = quantizer(inputs)
    assert out.indices.shape == (shape[0], *quantizer.index_shape, *shape[1:])
    assert losses(out).tolist() == [0, 0, 0]
    (out.quantized.sum() + losses(out).sum()).backward()
    assert inputs.grad.shape == inputs.shape
    assert same(state(quantizer), before)


@EVERY
@MODES
def test_with_nothing_valid_the_losses_are_zero_with_a_graph(name, train):
    quantizer = trained(name).train(train)
    before = state(quantizer)
    inputs = torch.full((2, quantizer.input_dim, 3), math.nan).requires_grad_()
    out = quantizer(inputs, mask=torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(out.indices, indices_of(quantizer, [[-1] * 3] * 2))
    assert losses(out).tolist() == [0, 0, 0]
    assert not out.quantized.any()
    (out.quantized.sum() + losses(out).sum()).backward()
    assert same(state(quantizer), before)
    assert not inputs.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in quantizer.parameters())


@EVERY
@MODES
def test_masked_positions_neither_teach_nor_count(name, train):
    masked, only_valid = trained(name).train(train), trained(name).train(train)
    for step in range(4, 8):
        inputs = latents(masked.input_dim, 8, 3, 3, purpose=step)
        mask = torch.rand(8, 3, 3, generator=torch.Generator().manual_seed(step)) < 0.6
        valid = inputs.movedim(1, -1)[mask].requires_grad_()  # [M, C]
        inputs = inputs.masked_fill(~mask[:, None], math.nan).requires_grad_()
        out, expected = masked(inputs, mask=mask), only_valid(valid)
        indices = out.indices.movedim(1, -1) if masked.index_shape else out.indices
        assert torch.equal(indices[mask], expected.indices)
        assert indices[~mask].unique().tolist() == [-1]
        torch.testing.assert_close(out.quantized.movedim(1, -1)[mask], expected.quantized)
        for filled in (out.quantized, out.code_vectors, out.latents):
            assert not filled.movedim(1, -1)[~mask].any()
        torch.testing.assert_close(losses(out), losses(expected))
        for result in (out, expected):
            (result.quantized.square().sum() + losses(result).sum()).backward()
        torch.testing.assert_close(inputs.grad.movedim(1, -1)[mask], valid.grad)
        assert not inputs.grad.movedim(1, -1)[~mask].any()
    for one, other in zip(masked.state_dict().values(), only_valid.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(masked.parameters(), only_valid.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@EVERY
def test_padding_is_decoded_as_zeros(name):
    quantizer = trained(name).eval()
    mask = torch.tensor([[True, False, True]])
    decoded = quantizer.decode_indices(indices_of(quantizer, [[3, -1, 2]]), mask=mask)
    first = quantizer.decode_indices(indices_of(quantizer, [3]))
    torch.testing.assert_close(decoded[..., 0], first, rtol=0, atol=1e-6)
    assert not decoded[..., 1].any()


@EVERY
@pytest.mark.parametrize(
    "mask", [torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool), torch.ones(6, dtype=torch.bool)]
)
@pytest.mark.usefixtures("unchecked")
def test_masks_that_do_not_fit_are_refused(name, mask):
    quantizer = trained(name)
    with pytest.raises(FlatvqError, match="mask"):
        quantizer(latents(quantizer.input_dim, 2, 3), mask=mask)
    with pytest.raises(FlatvqError, match="mask"):
        quantizer.decode_indices(indices_of(quantizer, torch.zeros(2, 3, dtype=torch.int64)), mask=mask)


# --- state


@EVERY
def test_eval_mode_changes_nothing(name):
    quantizer = trained(name).eval()
    before = state(quantizer)
    inputs = latents(quantizer.input_dim, 8, 3, 3).requires_grad_()
    out = quantizer(inputs)
    (out.quantized.sum() + out.commitment_loss).backward()
    assert same(state(quantizer), before)
    assert bool(inputs.grad.any())


@EVERY
def test_copies_go_on_alike(name):
    one = trained(name)
    other = copy.deepcopy(one)
    for step in range(4, 8):
        inputs = latents(one.input_dim, 8, 3, 3, purpose=step)
        assert_same_output(one(inputs), other(inputs))
    assert same(state(one), state(other))


@EVERY
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("passes", [1, 2])
def test_activation_checkpointing_changes_nothing(name, use_reentrant, passes):
    """Also where several forward passes wait for their backward passes, as in gradient accumulation."""

    def gradients(checkpointed):
        quantizer = trained(name)
        inputs = [
            latents(quantizer.input_dim, 8, 3, 3, purpose=20 + n).requires_grad_() for n in range(passes)
        ]

        def loss(one):
            out = quantizer(one)
            return out.quantized.square().mean() + out.commitment_loss + out.codebook_loss

        losses = [
            checkpoint(loss, one, use_reentrant=use_reentrant) if checkpointed else loss(one)
            for one in inputs
        ]
        for one in losses:
            one.backward()
        return quantizer, [one.grad for one in inputs] + [p.grad for p in quantizer.parameters()]

    (plain, expected), (repeated, recomputed) = gradients(False), gradients(True)
    for one, other in zip(recomputed, expected, strict=True):
        assert torch.equal(one, other)
    assert same(state(plain), state(repeated))


def test_a_forgotten_forward_pass_is_not_repeated():
    quantizer = trained("ema")
    inputs = [latents(4, 8, purpose=n).requires_grad_() for n in range(20)]
    losses = [checkpoint(lambda x: quantizer(x).commitment_loss, one, use_reentrant=False) for one in inputs]
    losses[-1].backward()
    quantizer.codebook._recent._passes.clear()
    with pytest.raises(FlatvqError, match="repeats a forward pass"):
        losses[0].backward()


# --- programs


@pytest.mark.slow
def test_programs_give_the_same_indices(tmp_path):
    """Exported, traced, vmapped and compiled, and loaded in another process with other codebooks around."""
    # In processes of their own: the hook that checks shapes in tests wraps functions, and tracers cannot look
    # through its wrappers.
    root = Path(__file__).parents[2]
    for part in ("save", "load"):
        command = [sys.executable, "-m", "tests.quantize.programs", part, tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("same indices") == len(BUILDERS), done.stdout


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in BUILDERS if name not in WITHOUT_STATE])
def test_training_mode_is_refused_where_nothing_learned_could_be_kept(name):
    quantizer = trained(name)
    before = state(quantizer)
    inputs = latents(quantizer.input_dim, 3, 2)
    with pytest.raises(FlatvqError, match=r"eval\(\)"):
        torch.vmap(lambda one: quantizer(one[None]).indices)(inputs)
    with pytest.raises(FlatvqError, match=r"eval\(\)"):
        torch.jit.trace(Encode(quantizer), inputs, check_trace=False)
    with pytest.raises(FlatvqError, match=r"eval\(\)"):
        torch.export.export(Encode(quantizer), (inputs,))
    assert same(state(quantizer), before)


def test_the_operator_follows_torch_s_rules():
    quantizer = trained("ema").eval()
    arguments = latents(4, 9), quantizer.codebook.weight
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.flatvq.look_up.default, arguments, test_utils=tests)


def test_every_quantizer_is_in_the_list():
    from flatvq import quantize

    classes = {one for one in vars(quantize).values() if isinstance(one, type)}
    quantizers = {one for one in classes if issubclass(one, quantize.Quantizer)} - {quantize.Quantizer}
    assert quantizers == {type(build()) for build in BUILDERS.values()}
    assert VectorQuantizer in quantizers


class Named(torch.Tensor):
    """A subclass that changes no operator, such as MetaTensor of MONAI."""


@EVERY
@MODES
def test_a_subclass_of_tensors_is_a_tensor(name, train):
    plain, other = trained(name).train(train), trained(name).train(train)
    values = latents(plain.input_dim, 8, 3, 3, purpose=9)
    expected = plain(values)
    assert_same_output(other(values.as_subclass(Named)), expected)
    assert same(state(plain), state(other))
    named = expected.indices.as_subclass(Named)
    assert type(other.decode_indices(named)) is torch.Tensor
    values[0] = math.nan
    with pytest.raises(NonFiniteError):
        other(values.as_subclass(Named))
    with pytest.raises(FlatvqError, match="outside a codebook"):
        other.decode_indices(named + other.codebook_size)


@FORWARD_MODE
@EVERY
def test_forward_mode_derivatives_are_those_of_reverse_mode(name):
    quantizer = trained(name).eval()

    def results(values):
        out = quantizer(values)
        return torch.cat([out.quantized.flatten(), losses(out)])

    values = latents(quantizer.input_dim, 3, purpose=4)
    reverse = torch.func.jacrev(results)(values)
    assert reverse.abs().sum() > 0.1
    torch.testing.assert_close(torch.func.jacfwd(results)(values), reverse)


@FORWARD_MODE
def test_forward_mode_derivatives_with_respect_to_code_vectors():
    quantizer = trained("gradient").eval()
    values = latents(4, 20, purpose=4)

    def loss(weight):
        return torch.func.functional_call(quantizer, {"codebook.weight": weight}, (values,)).codebook_loss

    weight = quantizer.codebook.weight.detach()
    expected = torch.func.grad(loss)(weight)
    assert expected.abs().sum() > 0.1
    torch.testing.assert_close(torch.func.jacfwd(loss)(weight), expected)


@EVERY
def test_gradients_follow_a_pass_in_inference_mode(name):
    quantizer, plain = BUILDERS[name](), BUILDERS[name]()
    plain.load_state_dict(quantizer.state_dict())
    if name == "scalar":  # its constants are made anew for each device
        quantizer(torch.zeros(1, quantizer.input_dim, device="meta"))
    values = latents(quantizer.input_dim, 40)
    with torch.inference_mode():
        quantizer.eval()(values)
    gradients = []
    for one in (quantizer, plain):
        leaf = values.clone().requires_grad_()
        out = one.train()(leaf)
        gradients += torch.autograd.grad(out.quantized.square().sum() + losses(out).sum(), leaf)
    assert torch.equal(*gradients)
