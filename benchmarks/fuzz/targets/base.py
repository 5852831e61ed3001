"""A reader: which files are mutated, and what the program calls to read them.

A target works in a copy of the corpus, which is the working folder. Mutated files are written there and read;
then the valid ones are put back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks.fuzz.mutations import (
    Mutate,
    mutated_bytes,
    mutated_compressed,
    mutated_json,
    mutated_lines,
    mutated_png,
    mutated_safetensors,
    mutated_yaml,
)
from flatvq.errors import FlatvqError

__all__ = ["Files", "Target", "each"]

Files = dict[Path, bytes]
"""Contents by path, relative to the corpus."""

_MUTATIONS: dict[str, Mutate] = {
    ".fvq": mutated_compressed,
    ".fvqs": mutated_compressed,
    ".json": mutated_json,
    ".jsonl": mutated_lines,
    ".png": mutated_png,
    ".safetensors": mutated_safetensors,
    ".yaml": mutated_yaml,
}


class Target(ABC):
    """A reader and its valid files."""

    pattern: str
    """Of the files that may be mutated, relative to the corpus."""
    limit_bytes = 2**30
    """Memory that an input may take."""

    def __init__(self) -> None:
        self.valid = {path: path.read_bytes() for path in self._paths()}

    @abstractmethod
    def read(self, changed: Sequence[Path]) -> str:
        """Read mutated files as the program does.

        Returns:
            The outcome in one word.

        Raises:
            FlatvqError: if they are refused.
            AssertionError: if they are accepted and should not be.
        """

    def inputs(self, random: Random) -> Files:
        """Draw the files of one input: one is mutated, and now and then two."""
        count = 2 if len(self.valid) > 1 and random.random() < 0.1 else 1
        return {path: self._mutated(path, random) for path in random.sample(list(self.valid), count)}

    def restore(self, changed: Sequence[Path]) -> None:
        """Put valid files back."""
        for path in changed:
            path.write_bytes(self.valid[path])

    def _paths(self) -> list[Path]:
        return sorted(path for path in Path().glob(self.pattern) if path.is_file() and path.name != ".lock")

    def _mutated(self, path: Path, random: Random) -> bytes:
        alike = [other for other in self.valid if other.suffix == path.suffix]
        mutate = _MUTATIONS.get(path.suffix, mutated_bytes)
        return mutate(self.valid[path], self.valid[random.choice(alike)], random)


def each(*calls: Callable[[], object]) -> str:
    """Make several calls, even after one that refused.

    Raises:
        FlatvqError: the first.
    """
    refused = []
    for call in calls:
        try:
            call()
        except FlatvqError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return "accepted"
