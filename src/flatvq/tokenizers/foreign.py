"""Tokenizers of other libraries. These classes call the library's module, which does the computation.

Axes: B batch, H W rows and columns of pixels, h w rows and columns of the grid, D code dim.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.paths import expanded
from flatvq.shapes import require_axes, require_integers
from flatvq.tokenizers import taming
from flatvq.tokenizers.outputs import require_description
from flatvq.tokenizers.protocol import Preprocess, Tokenizer, TokenizerLevel

__all__ = ["DiffusersTokenizer", "JanusTokenizer", "is_foreign", "open_foreign"]


class DiffusersTokenizer(nn.Module, Tokenizer):
    """A `VQModel` of diffusers.

    Args:
        module: the model.
    """

    # Settings that affect the output of a model, but not the names and shapes of its weights.
    _SETTINGS = (
        *("act_fn", "norm_num_groups", "norm_type", "mid_block_add_attention"),
        *("down_block_types", "up_block_types"),
    )

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        config = module.config
        self.preprocess = Preprocess(channels=config.in_channels)
        self._level = TokenizerLevel(config.num_vq_embeddings, 2 ** (len(config.block_out_channels) - 1))

    @property
    def levels(self) -> tuple[TokenizerLevel, ...]:
        """The grid."""
        return (self._level,)

    def inference_config(self) -> Mapping[str, Any]:
        """Return the settings of the model that its weights do not show."""
        return {"library": "diffusers", **{key: self.module.config[key] for key in self._SETTINGS}}

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images [B, C, H, W] in [0, 1] to indices [B, h, w]."""
        latents = self.module.encode(2 * images - 1).latents
        # One image at a time: the library computes a matrix of all distances.
        indices = [
            self.module.quantize(latent)[2][2].reshape(latent.shape[2:]) for latent in latents.split(1)
        ]
        return (torch.stack(indices),)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Decode indices [B, h, w] to images [B, C, H, W]."""
        (grid,) = _checked(indices, self.levels)
        shape = (*grid.shape, self.module.quantize.vq_embed_dim)
        if self.module.config.lookup_from_codebook:
            decoded = self.module.decode(grid.flatten(), force_not_quantize=True, shape=shape)
        else:  # `decode` would search codes for the code vectors again
            vectors = self.module.quantize.get_codebook_entry(grid.flatten(), shape=shape)
            decoded = self.module.decode(vectors, force_not_quantize=True)
        images: Tensor = (decoded.sample + 1) / 2
        return images


class JanusTokenizer(nn.Module, Tokenizer):
    """A `JanusVQVAE` of transformers, the architecture of LlamaGen's VQ-16.

    Args:
        module: the model.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        config = module.config
        factor = 2 ** (len(config.channel_multiplier) - 1)
        side = factor * config.num_patches
        self.preprocess = Preprocess(resize=side, crop=side, channels=config.in_channels)
        self._level = TokenizerLevel(config.num_embeddings, factor)

    @property
    def levels(self) -> tuple[TokenizerLevel, ...]:
        """The grid."""
        return (self._level,)

    def inference_config(self) -> Mapping[str, Any]:
        """Return the library; the weights show the settings of the model."""
        return {"library": "transformers.JanusVQVAE"}

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images [B, C, H, W] in [0, 1] to indices [B, h, w]."""
        shape = self._level.shape_for(*images.shape[2:])
        # One image at a time: the library computes a matrix of all distances.
        each = [self.module.encode(2 * image - 1).image_tokens.reshape(shape) for image in images[:, None]]
        return (torch.stack(each),)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Decode indices [B, h, w] to images [B, C, H, W]."""
        (grid,) = _checked(indices, self.levels)
        # The library decodes only grids of this shape. At first, it is the shape in its configuration.
        self.module.quantize.quant_state_dims = list(grid.shape[1:])
        images: Tensor = (self.module.decode(grid.flatten(1)) + 1) / 2
        return images


def is_foreign(spec: str) -> bool:
    """Return whether a specification names a tokenizer of another library.

    Example:
        >>> is_foreign("diffusers:my-model"), is_foreign("my-model")
        (True, False)
    """
    return spec.partition(":")[0] in _OPENERS and ":" in spec


def open_foreign(spec: str, device: str | torch.device) -> Tokenizer:
    """Open a tokenizer of another library.

    Args:
        spec: `diffusers:PATH`, `janus:PATH`, `taming:PATH` or `python:MODULE:FACTORY`.
        device: the device for the model.

    Returns:
        The tokenizer, in eval mode and float32.

    Raises:
        FlatvqError: if it cannot be opened, or its weights do not fit.
        MissingExtraError: if the library is not installed.
    """
    kind, _, name = spec.partition(":")
    tokenizer = _OPENERS[kind](name)
    if not isinstance(tokenizer, nn.Module):
        return tokenizer
    try:
        return tokenizer.eval().float().to(device)
    except (RuntimeError, AssertionError):  # the type of the error depends on the device
        raise FlatvqError(f"device '{device}' is not available", "use 'cpu'") from None


def _open_diffusers(name: str) -> Tokenizer:
    with _library("diffusers"):
        from diffusers import VQModel
    return DiffusersTokenizer(_pretrained(VQModel, name, "diffusers"))


def _open_janus(name: str) -> Tokenizer:
    with _library("transformers"):
        from transformers import JanusVQVAE
    return JanusTokenizer(_pretrained(JanusVQVAE, name, "transformers"))


def _open_taming(name: str) -> Tokenizer:
    with _library("diffusers"):
        from diffusers import VQModel
    folder = expanded(name)
    config, weights = taming.read(folder)
    build: Any = VQModel  # diffusers states no types
    module = build(**config)
    missing, unexpected = module.load_state_dict(weights, strict=False)
    if missing or unexpected:
        what = f"missing {missing[0]!r}" if missing else f"unexpected {unexpected[0]!r}"
        raise FlatvqError(
            f"the checkpoint in '{folder}' does not fit its VQGAN configuration ({what})",
            "check that both belong together; Gumbel and other quantizers are not supported",
        )
    return DiffusersTokenizer(module)


def _open_python(name: str) -> Tokenizer:
    module_name, _, factory_name = name.partition(":")
    spec = f"'python:{name}'"
    if not module_name or not factory_name:
        raise FlatvqError(f"{spec} names no factory", "write it like python:my_module:make_tokenizer")
    with _working_folder_on_path():
        try:
            module = import_module(module_name)
        except (Exception, SystemExit) as error:  # of the user's module
            what = f"cannot import the module of {spec} ({_reason(error)})"
            remedy = "check the name, and that it is installed or in the working folder"
            raise FlatvqError(what, remedy) from None
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            what = f"module {module_name!r} has no function {factory_name!r}"
            raise FlatvqError(what, "check the name")
        try:
            tokenizer = factory()
        except FlatvqError:
            raise
        except (Exception, SystemExit) as error:  # of the user's function
            remedy = "correct the function, which is called without arguments"
            raise FlatvqError(f"the function of {spec} failed ({_reason(error)})", remedy) from None
    if not isinstance(tokenizer, Tokenizer):
        what = f"{spec} returns an object of type {type(tokenizer).__name__}"
        raise FlatvqError(what, "return an instance of a subclass of flatvq.Tokenizer")
    require_description(tokenizer, spec)
    return tokenizer


_OPENERS: dict[str, Callable[[str], Tokenizer]] = {
    "diffusers": _open_diffusers,
    "janus": _open_janus,
    "taming": _open_taming,
    "python": _open_python,
}


@contextmanager
def _working_folder_on_path() -> Iterator[None]:
    """Let modules in the working folder be imported."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _library(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise MissingExtraError("tokenizers of other libraries", name, extra="foreign") from None


def _pretrained(kind: Any, name: str, library: str) -> Any:
    """Load a model with its library, and refuse missing weights, which the library would draw at random."""
    path = expanded(name)
    source = str(path) if path.exists() else name
    try:
        module, info = kind.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # of the library, of its HTTP client, or of the operating system
        what = f"{library} cannot load '{name}' as {kind.__name__} ({_reason(error)})"
        raise FlatvqError(what, "check the path or name") from None
    problems = [*info.get("missing_keys", ()), *info.get("mismatched_keys", ())]
    if problems:
        what = f"'{name}' holds no weights for {str(problems[0])!r} of {kind.__name__}"
        raise FlatvqError(what, "give the folder of this model alone")
    return module


def _checked(indices: Sequence[Tensor], levels: Sequence[TokenizerLevel]) -> list[Tensor]:
    """Check indices, as the tokenizers of flatvq do."""
    if isinstance(indices, Tensor) or len(indices) != len(levels):
        what = f"indices of type {type(indices).__name__} are not a list of {len(levels)}"
        raise FlatvqError(what, "pass one tensor per level")
    for number, (grid, level) in enumerate(zip(indices, levels, strict=True)):
        name = f"indices[{number}]"
        require_axes(grid, name, "B", *level.index_shape, "h", "w")
        require_integers(grid, name)
        if grid.numel() and (int(grid.min()) < 0 or int(grid.max()) >= level.codebook_size):
            low, high = int(grid.min()), int(grid.max())
            what = f"{name} range from {low} to {high}, outside of [0, {level.codebook_size})"
            raise FlatvqError(what, "pass indices of this tokenizer")
    return [grid.long() for grid in indices]


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
