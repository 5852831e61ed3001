"""What the figures of an evaluation depend on beside the protocol: the files they were computed from."""

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
    """Record what was evaluated, on which images, with which networks.

    Args:
        fingerprint: of the images (`flatvq.data.ImageSet`).
        tokenizer: its folder; None if it is in no file.
        weights: files of perceptual weights.

    Returns:
        What `measured_on` holds in metrics.json and in the output of `flatvq evaluate --json`
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
        folder: what `flatvq.model.save_tokenizer` wrote.

    Returns:
        `file_hash` of its model.safetensors.
    """
    return file_hash(folder / "model.safetensors")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, as `sha256sum` prints it.

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
