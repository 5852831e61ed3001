"""Keys of the `codebook` section under their names of version 0.1."""

from __future__ import annotations

import warnings
from typing import Any

from flatvq.deprecation import REMOVED_IN

__all__ = ["current_key", "current_keys"]

_NAMES = {"seeding": "init", "revival": "replacement"}


def current_keys(codebook: Any) -> Any:
    """Rename the keys of a `codebook` section.

    Args:
        codebook: the section as a plain mapping; other values are returned as they are.

    Raises:
        ValueError: if a key is given by both names.

    Example:
        >>> import pytest
        >>> with pytest.warns(FutureWarning, match="'seeding' is now 'init'"):
        ...     current_keys({"seeding": {"kind": "data"}, "metric": "cosine"})
        {'init': {'kind': 'data'}, 'metric': 'cosine'}
    """
    if not isinstance(codebook, dict) or not _NAMES.keys() & codebook.keys():
        return codebook
    for old in _NAMES.keys() & codebook.keys():
        if _NAMES[old] in codebook:
            raise ValueError(f"{old!r} and {_NAMES[old]!r} are the same key; give {_NAMES[old]!r} alone,")
    return {_current(key): value for key, value in codebook.items()}


def current_key(dotted: str) -> str:
    """Rename a dotted key such as `codebook.seeding.kind`, of a study or of one of its arms.

    Example:
        >>> current_key("codebook.init.kind")
        'codebook.init.kind'
    """
    parts = dotted.split(".")
    return ".".join(
        _current(part) if before == "codebook" else part
        for before, part in zip(["", *parts], parts, strict=False)
    )


def _current(key: str) -> str:
    if key not in _NAMES:
        return key
    warnings.warn(
        f"the recipe key {key!r} is now {_NAMES[key]!r}; flatvq {REMOVED_IN} refuses the old name",
        FutureWarning,
        stacklevel=2,
    )
    return _NAMES[key]
