"""`tune.json`: the trials of a search, and the comparison that confirms its winner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from flatvq.records.comparison import Comparison
from flatvq.records.identity import StoredIdentity
from flatvq.records.reading import (
    Count,
    Decibels,
    ExactNumber,
    Format2,
    Number,
    Record,
    Several,
    Step,
    read_record,
)

__all__ = ["Attempt", "Search", "load_search"]


class Attempt(Record):
    """One trial of a search."""

    number: Count
    state: Literal["done", "pruned", "failed"]
    reason: str | None = None
    psnr_db: Decibels | None = None
    validations: Several[Annotated[tuple[Step, Decibels], Strict(False)]] = ()
    values: dict[str, ExactNumber | str | bool | None] = Field({})
    run: str | None = None
    seconds: Number | None = None

    @property
    def reached(self) -> float | None:
        """The final PSNR of the trial; if it was pruned, the PSNR of its last validation."""
        if self.psnr_db is not None:
            return self.psnr_db
        return self.validations[-1][1] if self.validations else None


class Search(Record):
    """A search: its space, its trials, and the comparison of the winner with the incumbent."""

    format: Format2
    name: str
    steps: Step
    identity: StoredIdentity | None = None
    space: dict[str, Any]
    trials: Several[Attempt]
    best: Count | None = None
    importances: dict[str, Number] = Field({})
    confirmed: Comparison | None = None


def load_search(folder: Path) -> Search:
    """Read the record of a search.

    Args:
        folder: folder of the search, which holds `tune.json`.

    Raises:
        FlatvqError: if the file is missing or damaged, or does not hold a search.
    """
    return read_record(Search, folder / "tune.json", "give the folder of a search")
