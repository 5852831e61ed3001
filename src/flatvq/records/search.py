"""tune.json: what a search tried, and what the confirmation said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from flatvq.records.identity import StoredIdentity
from flatvq.records.reading import (
    Count,
    Decibels,
    Format2,
    Integer,
    Number,
    Record,
    Several,
    Step,
    read_record,
)
from flatvq.records.study import Comparison

__all__ = ["Attempt", "Search", "load_search"]


class Attempt(Record):
    """One trial of a search."""

    number: Count
    state: Literal["done", "pruned", "failed"]
    reason: str | None = None
    psnr_db: Decibels | None = None
    validations: Several[Annotated[tuple[Step, Decibels], Strict(False)]] = ()
    values: dict[str, Integer | Number | str | bool | None] = Field({})
    run: str | None = None
    seconds: Number | None = None

    @property
    def reached(self) -> float | None:
        """The PSNR that the trial ended with, or that of its last validation if it was pruned."""
        if self.psnr_db is not None:
            return self.psnr_db
        return self.validations[-1][1] if self.validations else None


class Search(Record):
    """A search: what could change, what was tried, and the winner against the incumbent."""

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
        folder: the search's folder, with tune.json in it.

    Raises:
        FlatvqError: if it is missing, damaged or something else.
    """
    return read_record(Search, folder / "tune.json", "name a search's folder")
