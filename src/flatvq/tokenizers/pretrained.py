"""The pretrained tokenizers that are part of the package.

Each is a folder in `weights/`, in the layout that `save_pretrained` writes, with its prior.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["pretrained_folder", "pretrained_names"]

_WEIGHTS = Path(__file__).parent / "weights"


def pretrained_names() -> list[str]:
    """Return the names of the pretrained tokenizers, sorted.

    Example:
        >>> "flatvq-f4" in pretrained_names()
        True
    """
    return sorted(path.parent.name for path in _WEIGHTS.glob("*/config.json"))


def pretrained_folder(name: str) -> Path | None:
    """Return the folder of a pretrained tokenizer; None if no pretrained tokenizer has this name.

    Example:
        >>> pretrained_folder("flatvq-f4").name, pretrained_folder("flatvq-f3")
        ('flatvq-f4', None)
    """
    return _WEIGHTS / name if name in pretrained_names() else None
