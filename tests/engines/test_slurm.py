"""A study on a real Slurm cluster on this machine, disturbed and undisturbed.

`python -m benchmarks.faults` does the same at many random instants; its record is results/faults.json.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.faults.cluster import Cluster, missing
from benchmarks.faults.study import FAULTS, StudyOnCluster

RECORD = Path(__file__).parents[2] / "results" / "faults.json"


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


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")
def test_a_disturbed_study_ends_like_an_undisturbed_one_on_this_machine(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = StudyOnCluster(tmp_path, cluster, steps=200)
    undisturbed = study.undisturbed()
    for fault, attempts in (("kill -9 of a trial", 5), ("kill -9 of the driver", 4)):
        shutil.rmtree(study.folder, ignore_errors=True)
        disturbance = study.disturb(fault, undisturbed, random.Random(0))
        assert disturbance.faults == ()
        assert disturbance.attempts == attempts, "only the killed trial was started again"


def test_the_record_has_every_fault_and_no_difference() -> None:
    disturbances = json.loads(RECORD.read_text(encoding="utf-8"))["disturbances"]
    assert {each["fault"] for each in disturbances} == set(FAULTS)
    assert all(each["faults"] == [] for each in disturbances)
    assert all(
        each["attempts"] > 4 for each in disturbances if each["fault"].startswith(("kill -9 of a", "SIG"))
    )
