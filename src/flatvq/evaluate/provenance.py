"""Record the inputs of an evaluation: versions, images, tokenizer and perceptual weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flatvq.versions import TRAINING_PROTOCOL, VERSION, commit

__all__ = ["file_hash", "measured_on", "tokenizer_hash"]


def measured_on(
    fingerprint: str, tokenizer: Path | None = None, weights: Iterable[Path] = ()
) -> dict[str, Any]:
    """Record the versions, the images and the networks of an evaluation.

    Args:
        fingerprint: fingerprint of the images (`flatvq.data.ImageSet`).
        tokenizer: folder of the tokenizer; None if it was not loaded from a folder.
        weights: files of perceptual weights.

    Returns:
        The object `measured_on` in metrics.json and in the output of `flatvq evaluate --json`
        (docs/records.md).

    Raises:
        FileNotFoundError: if a file is missing.
    """
    return {
        "flatvq": VERSION,
        "commit": commit(),
        "training_protocol": TRAINING_PROTOCOL,
        "fingerprint": fingerprint,
        "tokenizer": None if tokenizer is None else tokenizer_hash(tokenizer),
        "weights": {path.name: file_hash(path) for path in weights},
    }


def tokenizer_hash(folder: Path) -> str:
    """Hash the weights of a tokenizer.

    Args:
        folder: a folder written by `flatvq.model.save_tokenizer`.

    Returns:
        The `file_hash` of its model.safetensors.
    """
    return file_hash(folder / "model.safetensors")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, as printed by `sha256sum`.

    Args:
        path: the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "empty"
        ...     _ = path.write_bytes(b"")
        ...     file_hash(path)[:16]
        'e3b0c44298fc1c14'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
