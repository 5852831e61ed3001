"""Encoder and decoder can be exported by `torch.export`, and the programs run in any process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def run(*arguments: object) -> str:
    # In other processes: the hook that checks shapes in tests would be exported too.
    script = Path(__file__).parent / "exported.py"
    command = [sys.executable, "-W", "error", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    run("save", folder)
    return folder


@pytest.mark.parametrize("others", [0, 40])
def test_another_process_gives_the_same_indices_and_images(programs: Path, others: int) -> None:
    assert run("load", programs, others).count("same indices") == 4
