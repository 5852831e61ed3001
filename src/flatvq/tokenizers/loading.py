"""Opens a tokenizer by its name: a folder, a pretrained one, one on the hub, or one of another library."""

from __future__ import annotations

from pathlib import Path

import torch

from flatvq.errors import FlatvqError
from flatvq.paths import expanded
from flatvq.tokenizers import foreign, hub
from flatvq.tokenizers.pretrained import pretrained_folder, pretrained_names
from flatvq.tokenizers.protocol import Tokenizer
from flatvq.tokenizers.vqvae import VQVAETokenizer, load_folder

__all__ = ["load", "local_folder", "open_tokenizer"]


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> VQVAETokenizer:
    """Load a tokenizer of flatvq from a folder, from the package, or from the Hugging Face hub.

    Args:
        source: the folder of a tokenizer or of a finished run; or, if no such folder exists, the name of a
            pretrained tokenizer, such as `flatvq-f4`, or a repository on the hub, `OWNER/NAME`.
        device: the device for the model.
        revision: branch, tag or commit of the repository; None for `main`.
        cache_dir: folder for downloads; None for the default of `huggingface_hub`.
        local_files_only: whether to use only files of the hub that have been downloaded before.

    Returns:
        The tokenizer, in eval mode and float32, regardless of the default device and dtype of torch. It is a
        `VQVAE` and a `Tokenizer`.

    Raises:
        FlatvqError: if there is no such tokenizer, a file is damaged, the format is unknown, the weights do
            not fit the model of the config, or the device is not available.
        NonFiniteError: if a weight is NaN or infinite.
        MissingExtraError: if `source` is on the hub and `huggingface_hub` is not installed.

    Example:
        >>> load("flatvq-f4").levels
        (TokenizerLevel(codebook_size=16384, factor=4, index_shape=()),)
        >>> load("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no tokenizer at 'nowhere': give a folder, such as that of a run, a \
pretrained tokenizer (flatvq-f4, flatvq-f8), or a repository OWNER/NAME on the Hugging Face hub
    """
    folder = local_folder(source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    return load_folder(folder, device)


def local_folder(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a tokenizer of flatvq, after downloading it if it is on the hub.

    Args:
        source: as for `load`.
        revision: as for `load`.
        cache_dir: as for `load`.
        local_files_only: as for `load`.

    Raises:
        FlatvqError: if there is no such tokenizer.
        MissingExtraError: if `source` is on the hub and `huggingface_hub` is not installed.

    Example:
        >>> local_folder("flatvq-f4").name
        'flatvq-f4'
    """
    folder, name = expanded(source), str(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        what = f"'{name}' is a file, not a folder"
    elif foreign.is_foreign(name):
        what = f"'{source}' is a tokenizer of another library"
        raise FlatvqError(what, "open it with flatvq.Tokenizer.from_pretrained")
    elif pretrained := pretrained_folder(name):
        return pretrained
    elif hub.is_repository_id(name):
        return hub.download(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    else:
        what = f"no tokenizer at '{name}'"
    remedy = f"give a folder, such as that of a run, a pretrained tokenizer ({', '.join(pretrained_names())})"
    raise FlatvqError(what, f"{remedy}, or a repository OWNER/NAME on the Hugging Face hub")


def open_tokenizer(
    spec: str | Path,
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Tokenizer:
    """Open a tokenizer of flatvq or of another library, as `Tokenizer.from_pretrained` describes.

    Example:
        >>> open_tokenizer("python:nowhere:make")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: cannot import the module of 'python:nowhere:make' (ModuleNotFoundError: \
No module named 'nowhere'): check the name, and that it is installed or in the working folder
    """
    if foreign.is_foreign(str(spec)):
        return foreign.open_foreign(str(spec), device)
    return load(spec, device, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
