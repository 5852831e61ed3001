"""tune.json is written through the schema that reads it, and no value is lost or converted on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq.records import load_search
from flatvq.tune import write_record

SEARCHES = sorted((Path(__file__).parents[1] / "data").glob("tune-*"))


@pytest.mark.parametrize("folder", SEARCHES, ids=lambda folder: folder.name)
def test_a_committed_search_is_the_same_when_it_is_written_again(folder: Path, tmp_path: Path) -> None:
    search = load_search(folder)
    write_record(tmp_path, search, search.confirmed)
    before, after = (json.loads((path / "tune.json").read_text()) for path in (folder, tmp_path))
    # In JSON text, 1 and 1.0 differ.
    assert json.dumps(_only_keys_of(before, after), sort_keys=True) == json.dumps(before, sort_keys=True)


def _only_keys_of(before: Any, after: Any) -> Any:
    """Drop the keys of `after` that `before` does not have: older searches lack some.

    `seeds_needed` of older searches is not read.
    """
    if isinstance(before, dict):
        return {
            key: value if key == "seeds_needed" else _only_keys_of(value, after[key])
            for key, value in before.items()
        }
    if isinstance(before, list):
        return [_only_keys_of(*pair) for pair in zip(before, after, strict=True)]
    return after
