"""`torch.compile` takes a quantizer whole, and nothing that it learns or returns changes by a bit."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def test_compiled_as_one_graph_it_learns_the_same_bits():
    # In a process of its own: the hook that checks shapes in tests wraps functions, and the compiler cannot
    # look through its wrappers.
    script = Path(__file__).parent / "compiled.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Two updates, two metrics, two estimators.
    assert done.stdout.count("same bits") == 8
