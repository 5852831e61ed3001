"""Reads codebooks from checkpoints of any library, and arrays of indices.

Nothing is unpickled but tensors. A codebook is recognized by the name of its tensor and by its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = [
    "INDEX_SUFFIXES",
    "StoredCodebook",
    "StoredIndices",
    "read_codebooks",
    "read_indices",
    "weights_in",
]

INDEX_SUFFIXES = (".npy", ".npz", ".parquet")
"""Suffixes of files that hold indices."""

# Names of codebooks in state dicts: flatvq, vector-quantize-pytorch and lucidrains' older code, taming and
# LlamaGen, diffusers and transformers, Sonnet ports.
_CODEBOOK = re.compile(r"(^|[._])(code_?book|embed(ding)?|codes)(\.weight)?$")
_QUANTIZER = re.compile(r"quant|code_?book|(^|[._])vq", re.IGNORECASE)
# Moving averages of the use of each code, next to the codebook.
_COUNTS = ("counts", "cluster_size", "ema_cluster_size", "_ema_cluster_size", "N")
# Whether the codebook has been initialized: flatvq, and vector-quantize-pytorch.
_FLAGS = ("is_initialized", "initted")
_FEWEST_CODES = 2
_MOST_ROWS = 2**22


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


@dataclass(frozen=True)
class StoredIndices:
    """Indices of one level."""

    name: str
    counts: Tensor
    """int64: number of occurrences of each index, up to the largest one or to the size of the codebook."""


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
        if _CODEBOOK.search(_own_name(name)) and (_QUANTIZER.search(name) or len(tensors) == 1)
        for codebook in _codebooks(name, tensors)
    ]
    if not codebooks:
        what = f"no tensor of '{file}' is a codebook; it holds {_some(list(tensors))}"
        raise FlatvqError(what, "give a checkpoint whose codebook is named codebook, embed or embedding")
    return codebooks


def read_indices(path: Path, codebook_size: int | None = None) -> list[StoredIndices]:
    """Read indices, and count them.

    Args:
        path: a `.npy` or `.npz` file with integer arrays, or a `.parquet` file or a folder of them with
            columns of integers or lists of integers.
        codebook_size: K; by default the largest index plus one.

    Returns:
        The counts of each array or column. Columns named `width` and `height` are left out.

    Raises:
        FlatvqError: if the file cannot be read, holds no integers, or an index is negative or at least K.
    """
    arrays = list(_arrays(path))
    if not arrays:
        raise FlatvqError(f"'{path}' holds no array of integers", "give a file of indices")
    return [_counted(name, array, codebook_size, path) for name, array in arrays]


def weights_in(folder: Path) -> Path | None:
    """Return the weights in a folder of flatvq: a tokenizer, a checkpoint, or a run; None if there are none.

    Of a run, these are the weights of the finished model, or of the last checkpoint.
    """
    for place in (folder, folder / "model", *sorted((folder / "checkpoints").glob("step-*"))[-1:]):
        if (place / "model.safetensors").is_file():
            return place / "model.safetensors"
    return None


def _weights_of(path: Path) -> Path:
    """Return the file with the weights: the path itself, or that of a flatvq folder."""
    if not path.exists():
        raise FlatvqError(f"'{path}' does not exist", "give a checkpoint or a file of indices")
    file = path if path.is_file() else weights_in(path)
    if file is None:
        remedy = "give a run, a tokenizer or a checkpoint file"
        raise FlatvqError(f"'{path}' holds no model.safetensors", remedy)
    return file


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        tree = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FlatvqError(f"cannot read '{file}' ({reason})", "give a file of tensors") from None
    return dict(_flat(tree, ""))


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries, such as `{"state_dict": {...}}`, by dotted name."""
    if isinstance(tree, Tensor):
        yield prefix or "tensor", tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


def _own_name(name: str) -> str:
    """Return the last parts of a name. flatvq's codebook is `….codebook.weight`."""
    return ".".join(name.split(".")[-2:])


def _codebooks(name: str, tensors: Mapping[str, Tensor]) -> Iterator[StoredCodebook]:
    """Yield the codebooks of one tensor, [K, D] or [..., K, D]."""
    tensor = tensors[name]
    if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.shape[-2] < _FEWEST_CODES:
        return
    rows = tensor.float().reshape(-1, *tensor.shape[-2:])
    if rows.shape[0] * rows.shape[1] > _MOST_ROWS:
        return
    initialized = all(bool(flag.all()) for flag in _neighbours(name, tensors, _FLAGS))
    counts = next(_neighbours(name, tensors, _COUNTS), None)
    if counts is not None and counts.numel() != rows.shape[0] * rows.shape[1]:
        counts = None
    for number, codes in enumerate(rows):
        own = None if counts is None else counts.double().reshape(rows.shape[:2])[number]
        yield StoredCodebook(f"{name}[{number}]" if len(rows) > 1 else name, codes, own, initialized)


def _neighbours(name: str, tensors: Mapping[str, Tensor], keys: tuple[str, ...]) -> Iterator[Tensor]:
    """Yield the tensors with one of the keys that lie next to a codebook in the state dict."""
    stem = re.sub(r"\.?[^.]*$", "", name.removesuffix(".weight"))
    folders = dict.fromkeys((stem, name.removesuffix(".weight")))
    for place in (f"{folder}.{key}" if folder else key for folder in folders for key in keys):
        if place in tensors:
            yield tensors[place]


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise FlatvqError(f"'{path}' does not exist or holds no parquet file", "give a file of indices")
    try:
        if path.suffix == ".npy":
            yield path.stem, _integers(np.load(path, mmap_mode="r", allow_pickle=False), path.stem)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                yield from ((name, _integers(arrays[name], name)) for name in arrays.files)
        else:
            yield from _columns(files)
    except FlatvqError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FlatvqError(f"cannot read '{path}' ({reason})", "give a file of indices") from None


def _columns(files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetDataset([str(file) for file in files]).read()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            column = column.flatten()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_integer(column.type) and name not in ("width", "height"):
            yield name, column.to_numpy(zero_copy_only=False)


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise FlatvqError(f"the array '{name}' has the dtype {array.dtype}", "give integers")
    return array


def _counted(name: str, array: np.ndarray, codebook_size: int | None, path: Path) -> StoredIndices:
    if not array.size:
        raise FlatvqError(f"'{name}' of '{path}' is empty", "give at least one index")
    smallest, largest = int(array.min()), int(array.max())
    limit = codebook_size or largest + 1
    if smallest < 0 or largest >= limit:
        wrong = smallest if smallest < 0 else largest
        raise FlatvqError(
            f"'{name}' of '{path}' holds the index {wrong}", f"give indices from 0 to {limit - 1}"
        )
    if limit > _MOST_ROWS:
        raise FlatvqError(
            f"'{name}' of '{path}' holds the index {largest}", f"give indices below {_MOST_ROWS}"
        )
    counts = np.zeros(limit, dtype=np.int64)
    flat = array.reshape(-1)
    for start in range(0, len(flat), _MOST_ROWS):
        counts += np.bincount(flat[start : start + _MOST_ROWS].astype(np.int64), minlength=limit)
    return StoredIndices(name, torch.from_numpy(counts))


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "no tensors"
