"""A trained tokenizer in a folder: the weights and the recipe that rebuilds the model around them.

The layout is that of a model repository on the Hugging Face hub, so the folder can be uploaded as it is:

    FOLDER/
      config.json         `format`, `flatvq` (the version that wrote it), the recipe's `model` and `codebook`
      model.safetensors   parameters and buffers by name

Both are data only: nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from flatvq import __version__
from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.files import write_bytes
from flatvq.model.build import build_vqvae
from flatvq.model.vqvae import VQVAE
from flatvq.quantize import VectorQuantizer
from flatvq.recipe import CodebookRecipe, ModelRecipe, parse

__all__ = ["load_tokenizer", "save_tokenizer"]

# Raise it when a reader of the old one would go wrong: 2 since what steers a codebook is in buffers.
FORMAT = 2
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def save_tokenizer(folder: str | Path, model: VQVAE, config: Mapping[str, Any]) -> None:
    """Write a tokenizer. A folder with a config.json holds all of it, whenever the process is killed.

    Args:
        folder: where to; made if it is not there.
        model: the tokenizer.
        config: what JSON can hold, with the resolved recipe's `model` and `codebook` sections; other keys are
            kept for the reader.

    Raises:
        FlatvqError: if the config has no `model` section, or its sections are not those of the model; if the
            model is none, such as a wrapper around one, or has no weights, as on the meta device.
        NonFiniteError: if a weight is NaN or infinite.

    Example:
        >>> import tempfile
        >>> recipe = ModelRecipe(width=8, residual_width=2, levels=({"codebook_size": 16, "code_dim": 4},))
        >>> model = build_vqvae(recipe, CodebookRecipe()).eval()
        >>> images = torch.rand(1, 3, 16, 16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tokenizer(folder, model, {"model": recipe.model_dump(), "codebook": {}})
        ...     loaded = load_tokenizer(folder)
        >>> bool((loaded.encode(images)[0] == model.encode(images)[0]).all())
        True
    """
    if not isinstance(model, VQVAE):
        what = f"a model of type {type(model).__name__} is not a VQVAE"
        raise FlatvqError(what, "pass the one inside, such as model.module")
    recipe, codebook = _recipes(config, "the config")
    # What a reader will build must take these weights and search as this model does.
    if recipe != model.recipe or _searches(build_vqvae(recipe, codebook)) != _searches(model):
        raise FlatvqError(
            "the config's model and codebook sections are not those of the model",
            "pass the recipes that the model was built from",
        )
    state = model.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        raise FlatvqError(
            "the model has no weights, as it is on the meta device", "load some before saving it"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    _require_finite(tensors, "the model")
    head = {"format": FORMAT, "flatvq": __version__}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**config, **head}, indent=2).encode()
    if (place / _CONFIG).exists() and (place / _CONFIG).read_bytes() != content:
        (place / _CONFIG).unlink()  # or a kill could leave it beside the weights of another model
    write_bytes(place / _WEIGHTS, safetensors.save(tensors, metadata={"format": "pt"}))
    write_bytes(place / _CONFIG, content)


def load_tokenizer(folder: str | Path, device: str | torch.device = "cpu") -> VQVAE:
    """Read a tokenizer that `save_tokenizer` wrote.

    Args:
        folder: what holds config.json and model.safetensors, such as a run's `model` folder.
        device: where the model shall live.

    Returns:
        The model, in eval mode, in float32 whatever torch's default device and dtype.

    Raises:
        FlatvqError: if a file is missing or damaged, the format is not known, the weights are not those of
            the config's model, or there is no such device.
        NonFiniteError: if a weight is NaN or infinite.

    Example:
        >>> load_tokenizer("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: 'nowhere' holds no config.json: give the folder of a tokenizer, such as a \
run's model folder
    """
    place = Path(folder)
    recipe, codebook = _recipes(_read_config(place), f"'{place / _CONFIG}'")
    model = build_vqvae(recipe, codebook).float()  # whatever the default dtype
    tensors = _read_weights(place)
    _check_weights(tensors, model.state_dict(), place)
    _require_finite(tensors, f"'{place / _WEIGHTS}'")
    model.load_state_dict(tensors)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError):  # what torch raises depends on the device that is not there
        raise FlatvqError(f"device '{device}' is not available", "use 'cpu'") from None


def _recipes(config: Mapping[str, Any], origin: str) -> tuple[ModelRecipe, CodebookRecipe]:
    if "model" not in config:
        raise FlatvqError(f"{origin} has no section 'model'", "give the resolved recipe's")
    return (
        parse(ModelRecipe, config["model"], origin),
        parse(CodebookRecipe, config.get("codebook", {}), origin),
    )


def _read_config(place: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(place, _CONFIG))
    except ValueError:
        raise FlatvqError(f"'{place / _CONFIG}' is not JSON", "copy or train the tokenizer again") from None
    written = config.get("format") if isinstance(config, dict) else None
    if written != FORMAT:
        raise FlatvqError(
            f"'{place / _CONFIG}' has format {written!r}, and flatvq {__version__} reads format {FORMAT}",
            "load it with the flatvq that wrote it",
        )
    return dict(config)


def _read_weights(place: Path) -> dict[str, Tensor]:
    try:
        return safetensors.load(_read(place, _WEIGHTS))
    except SafetensorError:
        raise FlatvqError(f"'{place / _WEIGHTS}' is damaged", "copy or train the tokenizer again") from None


def _check_weights(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: Path) -> None:
    """Name the first tensor that is not as the config's model has it."""
    for name in sorted(given.keys() | expected.keys()):
        has, needs = (_described(tensors.get(name)) for tensors in (given, expected))
        if has != needs:
            raise FlatvqError(
                f"'{place / _WEIGHTS}' has {has} for {name!r}, and the config's model {needs}",
                "keep config.json and model.safetensors of one tokenizer together",
            )


def _described(tensor: Tensor | None) -> str:
    """Say what has to agree: the shape, and whether there are fractions; not how many bits they have."""
    if tensor is None:
        return "nothing"
    kind = "numbers" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return f"{kind} of shape {list(tensor.shape)}"


def _require_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise NonFiniteError(f"{origin} holds NaN or infinity in {name!r}", "train it again")


def _searches(model: VQVAE) -> list[tuple[type, object]]:
    """What decides the indices of each level beside the weights: the kind of quantizer and the metric."""
    return [
        (type(quantizer), quantizer.codebook.constrain if isinstance(quantizer, VectorQuantizer) else None)
        for quantizer in model.quantizers
    ]


def _read(place: Path, name: str) -> bytes:
    try:
        return (place / name).read_bytes()
    except FileNotFoundError:
        remedy = "give the folder of a tokenizer, such as a run's model folder"
        raise FlatvqError(f"'{place}' holds no {name}", remedy) from None
    except OSError as error:
        raise FlatvqError(f"cannot read '{place / name}' ({error.strerror})", "check the path") from None
