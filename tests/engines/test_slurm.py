"""A study on a real Slurm cluster on this machine, disturbed and undisturbed.

`python -m benchmarks.faults` does the same at many random instants; its record is results/faults.json.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.faults.cluster import Cluster, missing
from benchmarks.faults.study import StudyOnCluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    place = Path(tempfile.mkdtemp(prefix="flatvq-slurm-"))
    cluster = Cluster(place, array=4)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(place)


def test_a_disturbed_study_ends_like_an_undisturbed_one_on_this_machine(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = StudyOnCluster(tmp_path, cluster, steps=200)
    undisturbed = study.undisturbed()
    for fault in ("kill -9 of a trial", "kill -9 of the driver"):
        shutil.rmtree(study.folder, ignore_errors=True)
        assert study.disturb(fault, undisturbed, random.Random(0)).faults == ()
