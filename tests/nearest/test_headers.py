"""The C++ headers: each can be parsed on its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "src" / "flatvq" / "nearest" / "native"


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("header", sorted(path.name for path in NATIVE.glob("*.h")))
def test_a_header_is_parsed_on_its_own(header):
    command = ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", str(NATIVE / header)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
