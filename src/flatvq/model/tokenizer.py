"""Saves and loads a trained tokenizer: a folder with its weights and the recipe of its model.

The folder has the layout of a model repository on the Hugging Face hub, and can be uploaded without changes:

    FOLDER/
      config.json         `format`, `flatvq` (the version that wrote it), `model` and `codebook` of the
                          recipe, and `preprocess`: the size of the images that it was trained on
      model.safetensors   parameters and buffers by name; those that only training reads may be absent

Both files contain only data. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import torch as safetensors

from flatvq.errors import FlatvqError
from flatvq.files import write_bytes
from flatvq.model.build import build_vqvae
from flatvq.model.memory import weight_bytes
from flatvq.model.vqvae import VQVAE
from flatvq.model.weights import (
    describe_kind,
    inference_tensors,
    require_alike,
    require_finite,
    tensors_of,
)
from flatvq.quantize import Codebook, Quantizer
from flatvq.recipe import CodebookRecipe, ModelRecipe, parse
from flatvq.recipe.reading import shown
from flatvq.recipe.strict_json import load_json
from flatvq.regular import read_regular
from flatvq.translation import in_bytes
from flatvq.versions import VERSION

__all__ = ["load_tokenizer", "read_config", "require_stored_dtype", "save_tokenizer", "tokenizer_folder"]

# Increase it if an older version would misread the folder. 3: names of the buffers of codebooks.
FORMAT = 3
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_AGAIN = "copy or train the tokenizer again"
_WHICH = "give the folder of a tokenizer, such as the model folder of a run"
_TOGETHER = "keep config.json and model.safetensors of one tokenizer together"
# The size of a float32 divided by the size of the smallest number that weights can be stored as.
_MAX_SIZE_RATIO = 4
# Sizes in bytes beyond which a file is not read: of the config; of the weights, as a multiple of the size of
# the model (they may be float64, and hold the state of training) and a constant (the header).
_MOST_CONFIG = 2**24
_MOST_RATIO, _MOST_HEADER = 8, 2**26


def save_tokenizer(
    folder: str | Path,
    model: VQVAE,
    config: Mapping[str, Any],
    *,
    training_state: bool = True,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a tokenizer.

    A folder with a config.json holds a complete tokenizer, even if the process is killed.

    Args:
        folder: the folder; created if it does not exist.
        model: the tokenizer.
        config: a JSON object with the sections `model` and `codebook` of the resolved recipe. Other keys are
            stored unchanged.
        training_state: whether to store the buffers of codebooks that only training reads, such as counts.
        dtype: the number format of the stored weights. The loaded model always computes in float32.

    Raises:
        FlatvqError: if there is no such `dtype`; if the config has no `model` section, or its sections do
            not describe the model; if `model` is not a VQVAE, for example a wrapper around one; or if it has
            no weights, as on the meta device.
        NonFiniteError: if a weight is NaN or infinite, or too large for float16.

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
    require_stored_dtype(dtype)
    if not isinstance(model, VQVAE):
        what = f"a model of type {type(model).__name__} is not a VQVAE"
        raise FlatvqError(what, "pass the wrapped model, such as model.module")
    recipe, codebook = _recipes(config, "the config")
    # The model that a reader builds must have these weights and search codes in the same way.
    if recipe != model.recipe or _searches(build_vqvae(recipe, codebook)) != _searches(model):
        raise FlatvqError(
            "the model and codebook sections of the config do not describe the model",
            "pass the recipes that the model was built from",
        )
    state = model.state_dict() if training_state else inference_tensors(model)
    if any(tensor.is_meta for tensor in state.values()):
        raise FlatvqError(
            "the model has no weights, as it is on the meta device", "load weights before saving it"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    require_finite(tensors, "the model", "train it again")
    if dtype == "float16":
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
        require_finite(tensors, "the model in float16", "save it in float32")
    head = {"format": FORMAT, "flatvq": VERSION}
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**config, **head}, indent=2).encode()
    if (path / _CONFIG).exists() and (path / _CONFIG).read_bytes() != content:
        (path / _CONFIG).unlink()  # a kill must not leave the old config with the new weights
    write_bytes(path / _WEIGHTS, safetensors.save(tensors, metadata={"format": "pt"}))
    write_bytes(path / _CONFIG, content)


def load_tokenizer(folder: str | Path, device: str | torch.device = "cpu") -> VQVAE:
    """Read a tokenizer that `save_tokenizer` wrote.

    Args:
        folder: the folder with config.json and model.safetensors, such as the `model` folder of a run.
        device: the device for the model.

    Returns:
        The model, in eval mode and float32, regardless of the default device and dtype of torch.

    Raises:
        FlatvqError: if a file is missing or damaged, the format is unknown, the weights do not fit the model
            of the config, or the device is not available.
        NonFiniteError: if a weight is NaN or infinite.

    Example:
        >>> load_tokenizer("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no folder at 'nowhere': give the folder of a tokenizer, such as the model \
folder of a run
    """
    path = Path(folder)
    origin = f"'{path / _WEIGHTS}'"
    recipe, codebook = _recipes(read_config(path), f"'{path / _CONFIG}'")
    content = _read(path, _WEIGHTS, _MOST_RATIO * weight_bytes(recipe) + _MOST_HEADER)
    tensors = tensors_of(content, origin, _AGAIN)
    _require_room(recipe, content, path)
    model = build_vqvae(recipe, codebook).float()  # the default dtype may be another
    state, needed = model.state_dict(), inference_tensors(model)
    complete = not tensors.keys().isdisjoint(state.keys() - needed.keys())
    require_alike(tensors, state if complete else needed, describe_kind, origin, _TOGETHER)
    require_finite(tensors, origin, "train it again")
    model.load_state_dict(tensors, strict=complete)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError):  # the type of the error depends on the device
        raise FlatvqError(f"device '{device}' is not available", "use 'cpu'") from None


def require_stored_dtype(dtype: object) -> None:
    """Check that weights can be stored in a number format.

    Raises:
        FlatvqError: if it is neither `float32` nor `float16`.
    """
    if dtype not in ("float32", "float16"):
        raise FlatvqError(f"weights cannot be stored as {dtype!r}", "use 'float32' or 'float16'")


def tokenizer_folder(folder: Path) -> Path:
    """Return the folder of the tokenizer of a run.

    Args:
        folder: the folder of a run, or of a tokenizer.

    Returns:
        FOLDER/model if the folder is a run; otherwise the folder itself.

    Raises:
        FlatvqError: if the run is not finished.
    """
    model = folder / "model"
    if model.is_dir() and not (folder / _CONFIG).is_file():
        return model
    if (folder / "recipe.json").exists():
        raise FlatvqError(f"'{folder}' is not finished", f"finish it with `flatvq train {folder}`")
    return folder


def _recipes(config: Mapping[str, Any], origin: str) -> tuple[ModelRecipe, CodebookRecipe]:
    if "model" not in config:
        raise FlatvqError(f"{origin} has no section 'model'", "add the model section of the resolved recipe")
    return (
        parse(ModelRecipe, config["model"], origin),
        parse(CodebookRecipe, config.get("codebook", {}), origin),
    )


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read the config.json of a tokenizer.

    Args:
        folder: the folder of the tokenizer.

    Raises:
        FlatvqError: if the file is missing or damaged, or the format is unknown.
    """
    path = Path(folder)
    origin = f"'{path / _CONFIG}'"
    config = load_json(_read(path, _CONFIG, _MOST_CONFIG), origin, _AGAIN)
    version = config.get("format") if isinstance(config, dict) else None
    if version != FORMAT:
        raise FlatvqError(
            f"{origin} has format {shown(version)}, and flatvq {VERSION} reads format {FORMAT}",
            "load it with the flatvq that wrote it",
        )
    return dict(config)


def _require_room(recipe: ModelRecipe, content: bytes, path: Path) -> None:
    """Refuse a config whose model is far larger than the weights file, before memory is allocated for it."""
    needed = weight_bytes(recipe)
    if needed > _MAX_SIZE_RATIO * len(content):
        sizes = f"{in_bytes(len(content))}, and the config's model takes {in_bytes(needed)}"
        raise FlatvqError(f"'{path / _WEIGHTS}' has {sizes}", _TOGETHER)


def _searches(model: VQVAE) -> list[tuple[type, object]]:
    """Return what determines how codes are searched: types of quantizers, and constraints of codebooks."""
    return [
        (type(module), module.constrain if isinstance(module, Codebook) else None)
        for module in model.quantizers.modules()
        if isinstance(module, Quantizer | Codebook)
    ]


def _read(path: Path, name: str, most: int) -> bytes:
    try:
        return read_regular(path / name, most)
    except FileNotFoundError:
        what = f"'{path}' holds no {name}" if path.is_dir() else f"no folder at '{path}'"
        raise FlatvqError(what, _WHICH) from None
    except OSError as error:
        raise FlatvqError(f"cannot read '{path / name}' ({error.strerror})", "check the path") from None
