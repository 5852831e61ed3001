"""Old names of recipe keys. Until version `REMOVED_IN`, they work with a `FutureWarning`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from flatvq.deprecation import REMOVED_IN

__all__ = ["CODEBOOK_KEYS", "RANGE_KEYS", "STUDY_KEYS", "current_key", "current_keys"]

CODEBOOK_KEYS = {"seeding": "init", "revival": "replacement"}
"""New names of the keys of a `codebook` section, by old name."""
STUDY_KEYS = {"margin_db": "margin"}
"""New names of the top-level keys of a study, by old name."""
RANGE_KEYS = {"whole": "integer"}
"""New names of the keys of a section in `tune.space`, by old name."""


def current_keys(section: Any, new_names: Mapping[str, str]) -> Any:
    """Return a section with the current names of its keys.

    Args:
        section: the section as a plain dictionary. Other values are returned unchanged.
        new_names: the new names by old name.

    Raises:
        ValueError: if the section has a key under both names.

    Example:
        >>> import pytest
        >>> with pytest.warns(FutureWarning, match="'seeding' is now 'init'"):
        ...     current_keys({"seeding": {"kind": "data"}, "metric": "cosine"}, CODEBOOK_KEYS)
        {'init': {'kind': 'data'}, 'metric': 'cosine'}
    """
    if not isinstance(section, dict) or not new_names.keys() & section.keys():
        return section
    for old in new_names.keys() & section.keys():
        if new_names[old] in section:
            raise ValueError(f"{old!r} and {new_names[old]!r} are the same key")
    return {_renamed(key, new_names): value for key, value in section.items()}


def current_key(dotted: str) -> str:
    """Return the current name of a dotted key, such as `codebook.seeding.kind`.

    Example:
        >>> current_key("codebook.init.kind")
        'codebook.init.kind'
    """
    parts = dotted.split(".")
    new_names = {"": STUDY_KEYS, "codebook": CODEBOOK_KEYS}
    return ".".join(
        _renamed(part, new_names.get(parent, {})) for parent, part in zip(["", *parts], parts, strict=False)
    )


def _renamed(key: str, new_names: Mapping[str, str]) -> str:
    if key not in new_names:
        return key
    warnings.warn(
        f"the recipe key {key!r} is now {new_names[key]!r}; flatvq {REMOVED_IN} rejects the old name",
        FutureWarning,
        stacklevel=2,
    )
    return new_names[key]
