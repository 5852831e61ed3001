"""Models in other number formats and memory layouts. Codebooks keep their state in float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flatvq.model import VQVAE, build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe, InitRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.train.objective import objective

LEVELS = {
    "codebooks": (
        LevelRecipe(codebook_size=16, code_dim=4),
        LevelRecipe(downsample=2, codebook_size=8, code_dim=4),
    ),
    "scalar": (LevelRecipe(scalar_levels=(5, 4, 3)), LevelRecipe(downsample=2, scalar_levels=(8, 5))),
}
UPDATES = ("ema", "gradient")
FORMATS = (torch.float16, torch.bfloat16, torch.float64)


def images(batch: int = 4, purpose: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(purpose))


def new(levels: str = "codebooks", update: str = "ema") -> VQVAE:
    recipe = ModelRecipe(levels=LEVELS[levels], hierarchy="conditioned", width=8, residual_width=4)
    init = InitRecipe(kind="kmeans", vectors_per_code=2)
    return build_vqvae(recipe, CodebookRecipe(init=init, update={"kind": update}))


def trained(levels: str = "codebooks", update: str = "ema") -> VQVAE:
    model = new(levels, update)
    for step in range(3):
        train_step(model, images(purpose=step))
    return model


def train_step(model: VQVAE, batch: torch.Tensor) -> torch.Tensor:
    """Take one step of gradient descent; return the total loss."""
    losses = objective(model(batch), batch, TrainRecipe())
    model.zero_grad()
    losses.total.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    return losses.total.detach()


def quantizer_state(model: VQVAE) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.quantizers.state_dict().items()}


@pytest.fixture
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


# --- .half(), .bfloat16(), .double()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_converted_model_reconstructs_the_same_up_to_rounding(levels: str, dtype: torch.dtype) -> None:
    model = trained(levels).eval()
    with torch.no_grad():
        expected = model(images()).reconstruction
        result = model.to(dtype)(images())
    assert result.reconstruction.dtype == dtype
    # A cell whose nearest code changes by rounding gives an error as large as the pixel values.
    error = (result.reconstruction.double() - expected.double()).abs()
    typical = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float64: 1e-6}[dtype]
    assert float(error.median()) < typical
    assert float((error > 10 * typical).double().mean()) < 0.2


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_converted_model_decodes_its_indices_to_its_reconstruction(levels: str, dtype: torch.dtype) -> None:
    model = trained(levels).eval().to(dtype)
    with torch.no_grad():
        output = model(images())
        indices = model.encode(images())
        decoded = model.decode(indices)
    assert all(level.dtype == torch.int64 for level in indices)
    assert decoded.dtype == dtype
    for level, encoded in zip(output.levels, indices, strict=True):
        assert torch.equal(level.indices, encoded)
    torch.testing.assert_close(decoded, output.reconstruction, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_conversion_changes_no_bit_of_a_codebook(update: str, dtype: torch.dtype) -> None:
    model = trained(update=update)
    before = quantizer_state(model)
    after = quantizer_state(model.to(dtype))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype, name
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("start", [new, trained], ids=["from the start", "after some steps"])
def test_a_converted_model_trains(levels: str, update: str, dtype: torch.dtype, start) -> None:
    model = start(levels, update).to(dtype)
    losses = [train_step(model, images(purpose=step)) for step in range(4)]
    assert all(loss.isfinite() for loss in losses)
    # The loss is computed in float32.
    assert {loss.dtype for loss in losses} == {torch.promote_types(dtype, torch.float32)}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    for name, value in quantizer_state(model).items():
        assert not value.is_floating_point() or value.dtype == torch.float32, name


def test_training_in_double_precision_follows_float32() -> None:
    single, double = trained(), trained().double()
    for step in range(10, 13):
        losses = [train_step(model, images(purpose=step)).double() for model in (single, double)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("given", FORMATS)
def test_images_of_any_precision_go_into_a_float32_model(given: torch.dtype) -> None:
    model = trained().eval()
    batch = images().to(given)
    with torch.no_grad():
        result, expected = model(batch), model(batch.float())
    assert torch.equal(result.reconstruction, expected.reconstruction)


# --- autocast, default dtype, memory layout


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast_keeps_the_state_in_float32(levels: str, dtype: torch.dtype) -> None:
    model = new(levels)
    for step in range(4):
        batch = images(purpose=step)
        with torch.autocast("cpu", dtype=dtype):
            output = model(batch)
        losses = objective(output, batch, TrainRecipe())
        losses.total.backward()
        assert losses.total.dtype == torch.float32
        assert bool(losses.total.isfinite())
    for name, value in quantizer_state(model).items():
        assert not value.is_floating_point() or value.dtype == torch.float32, name
    model.eval()
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        indices = model.encode(batch)
        torch.testing.assert_close(
            model.decode(indices).float(), model(batch).reconstruction.float(), rtol=0, atol=0.02
        )


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_indices_nor_decoded_images(levels: str, dtype: torch.dtype) -> None:
    """Trainings of generators call a tokenizer under autocast. Indices must not depend on that."""
    model = trained(levels)
    batch = images(purpose=9)
    indices = model.encode(batch)
    with torch.no_grad():
        decoded = model.decode(indices)
        code_vectors = [q.decode_indices(level) for q, level in zip(model.quantizers, indices, strict=True)]
        with torch.autocast("cpu", dtype=dtype):
            assert all(torch.equal(a, b) for a, b in zip(model.encode(batch), indices, strict=True))
            assert torch.equal(model.decode(indices), decoded)
            assert torch.equal(model.decode_code_vectors(code_vectors), decoded)
            assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("default_dtype", FORMATS, indirect=True)
@pytest.mark.parametrize("update", UPDATES)
def test_a_model_built_under_another_default_dtype_trains_in_it(
    default_dtype: torch.dtype, update: str
) -> None:
    model = new(update=update)
    assert next(model.encoders.parameters()).dtype == default_dtype
    for step in range(3):
        assert bool(train_step(model, images(purpose=step).to(default_dtype)).isfinite())
    for name, value in quantizer_state(model).items():
        assert not value.is_floating_point() or value.dtype == torch.float32, name
    assert all(level.dtype == torch.int64 for level in model.eval().encode(images()))


def saved(model: VQVAE, folder) -> None:
    save_tokenizer(folder, model, {"model": model.recipe.model_dump(mode="json"), "codebook": {}})


@pytest.mark.parametrize("default_dtype", FORMATS, indirect=True)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tokenizer_is_loaded_in_float32_on_the_cpu_for_any_defaults(
    default_dtype: torch.dtype, device: str, tmp_path
) -> None:
    torch.set_default_dtype(torch.float32)
    model = trained().eval()
    saved(model, tmp_path)
    expected = model.encode(images())
    batch = images()
    torch.set_default_dtype(default_dtype)
    with torch.device(device):
        loaded = load_tokenizer(tmp_path)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
        assert value.dtype == model.state_dict()[name].dtype, name
    assert all(torch.equal(a, b) for a, b in zip(loaded.encode(batch), expected, strict=True))


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_converted_tokenizer_is_saved_and_loaded_in_float32(dtype: torch.dtype, tmp_path) -> None:
    model = trained().eval().to(dtype)
    saved(model, tmp_path)
    loaded = load_tokenizer(tmp_path)
    for (name, value), original in zip(loaded.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(value, original.float() if original.is_floating_point() else original), name


def test_a_model_is_built_on_the_cpu_with_the_same_weights_for_any_default_device() -> None:
    expected = new().state_dict()
    with torch.device("meta"):
        result = new().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in result.items())


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("assign", [False, True])
def test_a_model_on_the_meta_device_can_load_weights(levels: str, update: str, assign: bool) -> None:
    model = trained(levels, update)
    expected = [level.clone() for level in model.eval().encode(images())]
    with torch.no_grad():
        decoded = model.decode(expected)
    empty = new(levels, update).to("meta")
    if not assign:
        empty.to_empty(device="cpu")
    empty.load_state_dict(model.state_dict(), assign=assign)
    assert all(torch.equal(a, b) for a, b in zip(empty.eval().encode(images()), expected, strict=True))
    with torch.no_grad():
        assert torch.equal(empty.decode(expected), decoded)
    train_step(empty.train(), images())


def test_building_a_model_leaves_the_random_state_of_the_user_unchanged() -> None:
    def states() -> list[torch.Tensor]:
        accelerators = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return [torch.random.get_rng_state(), *accelerators]

    before = states()
    new()
    assert all(torch.equal(now, then) for now, then in zip(states(), before, strict=True))


@pytest.mark.parametrize("levels", LEVELS)
def test_memory_layouts_give_the_same_images(levels: str) -> None:
    model = trained(levels).eval()
    batch = images()
    with torch.no_grad():
        expected = model(batch)
        strided = torch.empty(4, 3, 32, 64)[..., ::2].copy_(batch)
        for given in (batch.to(memory_format=torch.channels_last), strided, batch.flip(-1).flip(-1)):
            result = model(given)
            torch.testing.assert_close(result.reconstruction, expected.reconstruction, rtol=0, atol=1e-5)
        model.to(memory_format=torch.channels_last)
        result = model(batch.to(memory_format=torch.channels_last))
    torch.testing.assert_close(result.reconstruction, expected.reconstruction, rtol=0, atol=1e-5)
    for ours, theirs in zip(result.levels, expected.levels, strict=True):
        assert torch.equal(ours.indices, theirs.indices)
