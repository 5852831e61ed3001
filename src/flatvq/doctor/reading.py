"""Reads codebooks from checkpoints of any library.

Nothing is unpickled but tensors. A codebook is recognized by the name of its tensor and by its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

from flatvq.data.reasons import printable
from flatvq.doctor.indices import MOST_CODES
from flatvq.errors import FlatvqError
from flatvq.regular import require_regular

__all__ = ["NoCodebookError", "StoredCodebook", "read_codebooks", "weights_in"]

# Names of codebooks in state dicts: flatvq, vector-quantize-pytorch and lucidrains' older code, taming and
# LlamaGen, diffusers and transformers, Sonnet ports.
_CODEBOOK = re.compile(r"(^|[._])(code_?books?|embed(ding)?|codes)(\.weight)?$")
_QUANTIZER = re.compile(r"quant|code_?book|(^|[._])vq", re.IGNORECASE)
# Moving averages of the use of each code, next to the codebook.
_COUNTS = ("counts", "cluster_size", "ema_cluster_size", "_ema_cluster_size", "N")
# Whether the codebook has been initialized: flatvq, and vector-quantize-pytorch.
_FLAGS = ("is_initialized", "initted")
_FEWEST_CODES = 2
# Levels of nested dictionaries.
_DEEPEST = 32


class NoCodebookError(FlatvqError):
    """A checkpoint holds no codebook."""


@dataclass(frozen=True)
class StoredCodebook:
    """A codebook that a checkpoint holds."""

    name: str
    """The name of its tensor, with a number if the tensor holds several."""
    code_vectors: Tensor
    """float32 [K, D]."""
    counts: Tensor | None
    """float64 [K]: use of each code, for example a moving average; None if the checkpoint has none."""
    initialized: bool = True
    """False if the checkpoint says that the code vectors have not been initialized yet."""


def read_codebooks(path: Path) -> list[StoredCodebook]:
    """Read all codebooks of a checkpoint.

    Args:
        path: a `.safetensors`, `.pt`, `.pth`, `.ckpt` or `.bin` file with a state dict, or a folder with one
            `model.safetensors` (a tokenizer or checkpoint of flatvq, or a run folder).

    Returns:
        The codebooks, by name.

    Raises:
        FlatvqError: if the file cannot be read or holds no codebook.
    """
    file = _weights_of(path)
    tensors = _tensors(file)
    codebooks = [
        codebook
        for name in sorted(tensors)
        if _CODEBOOK.search(_last_parts(name)) and (_QUANTIZER.search(name) or len(tensors) == 1)
        for codebook in _codebooks(name, tensors)
    ]
    if not codebooks:
        what = f"no tensor of '{file}' is a codebook; it holds {_first_names(list(tensors))}"
        remedy = "give a checkpoint whose codebook is named codebook, embed or embedding"
        without = "a quantizer without a codebook is examined by a finished run or by its indices"
        raise NoCodebookError(what, f"{remedy}; {without}")
    return codebooks


def weights_in(folder: Path) -> Path | None:
    """Return the weights in a folder of flatvq: a tokenizer, a checkpoint, or a run; None if there are none.

    For a run, these are the weights of the finished model, or else of the last checkpoint.
    """
    for candidate in (folder, folder / "model", *sorted((folder / "checkpoints").glob("step-*"))[-1:]):
        if (candidate / "model.safetensors").is_file():
            return candidate / "model.safetensors"
    return None


def _weights_of(path: Path) -> Path:
    """Return the file with the weights: the path itself, or the weights in a folder of flatvq."""
    if not path.exists():
        raise FlatvqError(f"'{path}' does not exist", "give a checkpoint or a file of indices")
    file = path if path.is_file() else weights_in(path)
    if file is None:
        remedy = "give a run, a tokenizer or a checkpoint file"
        raise FlatvqError(f"'{path}' holds no model.safetensors", remedy)
    return file


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        require_regular(file)
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if not is_zipfile(file):
            what = f"'{file}' is not a file that torch.save of PyTorch 1.6 or later wrote"
            raise FlatvqError(what, "save it again, or as .safetensors")
        tree = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FlatvqError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FlatvqError(f"cannot read '{file}' ({reason})", "give a file of tensors") from None
    return dict(_flat(tree))


def _flat(tree: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries, such as `{"state_dict": {...}}`, by dotted name.

    Each dictionary is visited once, because it may contain itself.
    """
    pending: list[tuple[str, Any, int]] = [("", tree, 0)]
    visited: set[int] = set()
    while pending:
        prefix, value, depth = pending.pop()
        if isinstance(value, Tensor):
            yield prefix or "tensor", value
        elif isinstance(value, Mapping) and id(value) not in visited and depth < _DEEPEST:
            visited.add(id(value))
            items = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
            pending += [(name, item, depth + 1) for name, item in reversed(items)]


def _last_parts(name: str) -> str:
    """Return the last parts of a name. flatvq's codebook is `….codebook.weight`."""
    return ".".join(name.split(".")[-2:])


def _codebooks(name: str, tensors: Mapping[str, Tensor]) -> Iterator[StoredCodebook]:
    """Yield the codebooks of one tensor, [K, D] or [..., K, D]."""
    tensor = tensors[name]
    if not tensor.is_floating_point() or not _is_stored(tensor):
        return
    if tensor.dim() < 2 or tensor.shape[-2] < _FEWEST_CODES or not tensor.shape[-1]:
        return
    rows = tensor.float().reshape(-1, *tensor.shape[-2:])
    if rows.shape[0] * rows.shape[1] > MOST_CODES:
        return
    initialized = all(bool(flag.all()) for flag in _neighbours(name, tensors, _FLAGS))
    counts = next(_neighbours(name, tensors, _COUNTS), None)
    if counts is not None and (counts.is_complex() or counts.numel() != rows.shape[0] * rows.shape[1]):
        counts = None
    shown = printable(name)
    for number, codes in enumerate(rows):
        own = None if counts is None else counts.double().reshape(rows.shape[:2])[number]
        yield StoredCodebook(f"{shown}[{number}]" if len(rows) > 1 else shown, codes, own, initialized)


def _is_stored(tensor: Tensor) -> bool:
    """Return whether the file stores each number of a tensor.

    A few bytes of a checkpoint can describe a view of any size.
    """
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized)
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _neighbours(name: str, tensors: Mapping[str, Tensor], keys: tuple[str, ...]) -> Iterator[Tensor]:
    """Yield the tensors with one of the keys that lie next to a codebook in the state dict."""
    stem = re.sub(r"\.?[^.]*$", "", name.removesuffix(".weight"))
    folders = dict.fromkeys((stem, name.removesuffix(".weight")))
    for neighbour in (f"{folder}.{key}" if folder else key for folder in folders for key in keys):
        if neighbour in tensors and _is_stored(tensors[neighbour]):
            yield tensors[neighbour]


def _first_names(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "no tensors"
