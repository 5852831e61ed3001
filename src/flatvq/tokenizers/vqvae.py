"""The tokenizers of flatvq: a `VQVAE` with its preprocessing, its configuration and its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.files import write_bytes, write_text
from flatvq.model import VQVAE, load_tokenizer, save_tokenizer, tokenizer_folder
from flatvq.model.tokenizer import read_config, require_stored_dtype
from flatvq.model.weights import inference_tensors
from flatvq.paths import expanded
from flatvq.recipe import load_trial
from flatvq.tokenizers.card import model_card
from flatvq.tokenizers.protocol import Preprocess, Tokenizer, TokenizerLevel

__all__ = ["PRIOR_FILES", "VQVAETokenizer", "load_folder"]

PRIOR_FILES = ("prior.safetensors", "prior.json")
"""The files of a prior in the folder of its tokenizer (`flatvq.codec.storage`), in the order of writing."""


class VQVAETokenizer(VQVAE, Tokenizer):
    """A trained `VQVAE` with its preprocessing and configuration; `flatvq.load` returns it.

    Args:
        model: the model. The tokenizer takes over its parts.
        preprocess: the size of images that it was trained on.
        config: the content of its config.json.
        run: the folder of the run that trained it, for the model card; None if unknown.
        folder: the folder that it was loaded from, for its prior; None if unknown.

    Example:
        >>> from flatvq.model import build_vqvae
        >>> from flatvq.recipe import CodebookRecipe, ModelRecipe
        >>> recipe = ModelRecipe(width=8, residual_width=4)
        >>> model = build_vqvae(recipe, CodebookRecipe())
        >>> tokenizer = VQVAETokenizer(model, Preprocess(crop=64), {"model": recipe.model_dump(mode="json")})
        >>> tokenizer.levels
        (TokenizerLevel(codebook_size=1024, factor=4, index_shape=()),)
    """

    def __init__(
        self,
        model: VQVAE,
        preprocess: Preprocess,
        config: Mapping[str, Any],
        run: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not VQVAE's, which would build the parts again
        # Take over the attributes and parts of the model.
        self.__dict__.update({**vars(model), "_modules": dict(model._modules)})
        self.preprocess, self.config, self.run, self.folder = preprocess, dict(config), run, folder
        self.train(model.training)

    @property
    def levels(self) -> tuple[TokenizerLevel, ...]:
        """The grids of indices, bottom (the finest) first."""
        levels, factor = [], 1
        for level in self.recipe.levels:
            factor *= level.downsample
            levels.append(TokenizerLevel(level.codebook_size, factor, tuple(level.index_shape)))
        return tuple(levels)

    def inference_config(self) -> Mapping[str, Any]:
        """Return the recipe of the model and the metric of its codebooks, without keys at their default."""
        codebook = self.config.get("codebook", {})
        return {
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True),
            "metric": codebook.get("metric", "euclidean"),
        }

    def inference_tensors(self) -> Mapping[str, Tensor]:
        """Return weights and code vectors, without state that only training reads."""
        return inference_tensors(self)

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32"
    ) -> Path:
        """Write config.json, model.safetensors and README.md, the layout of a repository on the hub.

        State that only training reads is left out. A prior is copied if the weights stay the same. The
        README.md is a model card, written from the records of the run that the tokenizer was loaded from. If
        the weights have changed since, the card does not repeat these records.

        Args:
            folder: the folder; created if it does not exist.
            dtype: the number format of the stored weights. float16 halves the size, and changes indices where
                two codes are almost equally near. Computations are in float32 after loading.

        Returns:
            The folder.

        Raises:
            FlatvqError: if there is no such `dtype`, the folder is that of a run, `preprocess` has another
                range or other channels than the model, or a record of the run is damaged.
            NonFiniteError: if a weight is NaN or infinite, or too large for float16.
        """
        require_stored_dtype(dtype)
        path = expanded(folder)
        if (path / "recipe.json").exists():
            raise FlatvqError(f"'{path}' is the folder of a run", "save to another folder")
        resize, crop = self.preprocess.resize, self.preprocess.crop
        if self.preprocess != Preprocess(resize, crop, self.recipe.channels):
            what = f"{self.preprocess} cannot be stored, as the model has another range or other channels"
            raise FlatvqError(what, "change only its resize and crop")
        config = {**self.config, "preprocess": {"resize": resize, "crop": crop}}
        prior, prior_of = self._prior()
        run = self.run
        if run is not None and self.folder is not None:
            run = run if self._unchanged(load_folder(self.folder).inference_tensors()) else None
        save_tokenizer(path, self, config, training_state=False, dtype=dtype)
        stored = load_folder(path)  # rounding to float16 changes the identity
        # A prior is valid only for a tokenizer with the same weights.
        for name in PRIOR_FILES:
            (path / name).unlink(missing_ok=True)
            if prior and stored.id == prior_of:
                write_bytes(path / name, prior[name])
        write_text(path / "README.md", model_card(stored, self.recipe, run, dtype))
        return path

    def _unchanged(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether the weights are still those of the tensors."""
        own = self.inference_tensors()
        return own.keys() == tensors.keys() and all(
            torch.equal(tensor.cpu(), tensors[name].cpu()) for name, tensor in own.items()
        )

    def _prior(self) -> tuple[dict[str, bytes], str]:
        """Return the content of the files of the prior, and the tokenizer that it belongs to; empty if none.

        The weights of this tokenizer may have changed since it was loaded.
        """
        if self.folder is None or not all((self.folder / name).is_file() for name in PRIOR_FILES):
            return {}, ""
        return {name: (self.folder / name).read_bytes() for name in PRIOR_FILES}, load_folder(self.folder).id


def load_folder(folder: Path, device: str | torch.device = "cpu") -> VQVAETokenizer:
    """Read a tokenizer of flatvq.

    Args:
        folder: the folder of a tokenizer, or of a finished run.
        device: the device for the model.

    Returns:
        The tokenizer, in eval mode and float32.

    Raises:
        FlatvqError: if the folder holds no tokenizer, or a damaged one.
        NonFiniteError: if a weight is NaN or infinite.
    """
    path = tokenizer_folder(folder)
    run = _run_of(path)
    model = load_tokenizer(path, device)
    config = read_config(path)
    size = config.get("preprocess")
    if size is None and run is not None:
        size = load_trial(run).data.model_dump(include={"resize", "crop"})
    preprocess = _preprocess(size or {}, model.recipe.channels, path / "config.json")
    return VQVAETokenizer(model, preprocess, config, run, path)


def _run_of(path: Path) -> Path | None:
    """Return the run whose folder `model` this is; None if the folder belongs to no run."""
    # Not resolve(), which would follow a link out of the run.
    run = path.absolute().parent
    return run if path.name == "model" and (run / "recipe.json").is_file() else None


def _preprocess(size: Any, channels: int, origin: Path) -> Preprocess:
    keys = ("resize", "crop")
    values = [size.get(key, 0) for key in keys] if isinstance(size, dict) else []
    if not values or any(type(value) is not int or not 0 <= value <= 65_536 for value in values):
        what = f"'{origin}' holds no valid 'preprocess'"
        raise FlatvqError(what, 'write it like {"resize": 0, "crop": 64}, or remove it')
    return Preprocess(resize=values[0], crop=values[1], channels=channels)
