"""A reader with every kind of fault, to see that each is found."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.fuzz.targets import Files, Target

from flatvq.errors import FlatvqError


class Faulty(Target):
    """Does what its file says; the valid file asks for nothing."""

    pattern = "recipes/mine.yaml"
    limit_bytes = 2**26
    deeds = ("accept", "refuse", "raise", "warn", "print", "die", "assert", "allocate")

    def inputs(self, random: Random) -> Files:
        return {path: random.choice(self.deeds).encode() for path in self.valid}

    def read(self, changed: Sequence[Path]) -> str:
        deed = changed[0].read_bytes()
        if deed == b"refuse":
            raise FlatvqError("not what it should be", "change it")
        if deed == b"raise":
            raise KeyError("missing")
        if deed == b"warn":
            warnings.warn("a warning", stacklevel=2)
        if deed == b"print":
            os.write(2, b"something is wrong\n")
        if deed == b"die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if deed == b"allocate":
            _ = b"x" * 100 * 2**20
        assert deed != b"assert", "nonsense"
        return "accepted"
