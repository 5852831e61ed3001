"""Readers of compressed images, and of the priors that they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

from benchmarks.fuzz.targets.base import Target, each

__all__ = ["Compressed", "Priors"]

TOKENIZERS = (Path("compressed/tokenizer"), Path("compressed/network"))
"""The same tokenizer with a prior of kind table, and of kind network."""


class Compressed(Target):
    """Compressed images, alone and in collections."""

    pattern = "compressed/*.fvq*"

    def __init__(self) -> None:
        from flatvq.codec import load_codec

        super().__init__()
        self.table, self.network = (load_codec(folder) for folder in TOKENIZERS)

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq inspect` and `flatvq decompress` do."""
        from flatvq.codec import read_contents

        content = changed[0].read_bytes()
        return each(lambda: read_contents(BytesIO(content), "'it'"), lambda: self._decompress(content))

    def _decompress(self, content: bytes) -> None:
        from flatvq.codec import read_contents

        kind = read_contents(BytesIO(content), "'it'").prior
        codec = self.network if kind == "network" else self.table
        for name, pixels in codec.decompress_collection(content):
            assert ".." not in name.split("/")
            assert pixels.dtype.name == "uint8"
            assert pixels.shape[2] == 3


class Priors(Target):
    """The priors of tokenizers."""

    pattern = "compressed/*/prior.*"

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq compress` and `flatvq decompress` do."""
        return each(*(partial(_compress, folder) for folder in sorted({path.parent for path in changed})))


def _compress(tokenizer: Path) -> None:
    import numpy as np

    from flatvq.codec import load_codec

    codec = load_codec(tokenizer)
    pixels = codec.decompress(codec.compress(np.full((20, 24, 3), 99, np.uint8)))
    assert pixels.shape == (20, 24, 3)
