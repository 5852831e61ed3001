"""A study on a real Slurm cluster on this machine, disturbed and undisturbed.

`python -m benchmarks.faults --on slurm` does the same at many random instants.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.faults.slurm import Slurm, missing
from benchmarks.faults.study import SmallStudy
from benchmarks.faults.table import FAULTS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    place = Path(tempfile.mkdtemp(prefix="flatvq-slurm-"))
    cluster = Slurm(place, array=4)
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")
def test_a_disturbed_study_ends_like_an_undisturbed_one_on_this_machine(
    cluster: Slurm, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cluster, steps=200)
    undisturbed = study.undisturbed()
    for name, attempts in (("kill -9 of a trial", 5), ("kill -9 of the driver", 4)):
        disturbance = study.disturb(name, FAULTS["slurm"][name], undisturbed, random.Random(0))
        assert disturbance.faults == ()
        assert disturbance.attempts == attempts, "only the killed trial was started again"
