"""Trainings and encodings from S3 end with the bits of those from a disk, even if they are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.data.s3_server import REASON, SECRET, S3Server, s3_server
from tests.data.shard_files import write_parquets, write_tars

from flatvq.recipe import TrialRecipe
from flatvq.train import run_trial

pytest.importorskip("s3fs", reason=REASON)
pytest.importorskip("moto.server", reason=REASON)
pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    with s3_server() as own:
        monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
        for name, value in own.environment().items():
            monkeypatch.setenv(name, value)
        yield own


@pytest.fixture
def shards(photographs: Path, tmp_path: Path) -> Path:
    files = [path.read_bytes() for path in sorted(photographs.iterdir())]
    write_tars(tmp_path / "shards", files[::2], 4)
    return write_parquets(tmp_path / "shards", files[1::2], 4)


@pytest.fixture
def recipe(small_recipe, shards: Path) -> TrialRecipe:
    own = small_recipe(steps=12, validate_every=6, checkpoint_every=2)
    data = {"source": "shards", "path": str(shards), "cache_mib": 0, "shuffle_mib": 64}
    return own.model_copy(update={"data": own.data.model_copy(update=data)})


def flatvq(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flatvq", *words], capture_output=True, text=True)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def texts_below(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PROGRAM = "import sys, json; from flatvq.recipe import *; from flatvq.train import run_trial\n"
PROGRAM += "recipe = parse(TrialRecipe, json.loads(sys.argv[1])); run_trial(recipe, sys.argv[2])"


def test_a_killed_training_from_s3_ends_with_the_weights_of_local_shards(
    server: S3Server, recipe: TrialRecipe, shards: Path, tmp_path: Path
) -> None:
    assert run_trial(recipe, tmp_path / "local")
    data = recipe.data.model_copy(update={"path": server.put(shards)})
    remote = recipe.model_copy(update={"data": data})
    server.every = 7  # some reads fail
    words = [sys.executable, "-c", PROGRAM, json.dumps(remote.model_dump(mode="json")), str(tmp_path / "run")]
    with subprocess.Popen(words) as killed:
        while killed.poll() is None and not [*(tmp_path / "run").glob("checkpoints/step-*")]:
            time.sleep(0.01)
        killed.kill()
    assert not (tmp_path / "run" / "metrics.json").exists(), "it was killed too late"
    assert run_trial(remote, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(tmp_path / "local")
    assert "a failure" in server.reads
    for path, content in texts_below(tmp_path / "run").items():
        assert SECRET.encode() not in content, path


def test_encoding_from_s3(server: S3Server, recipe: TrialRecipe, shards: Path, tmp_path: Path) -> None:
    assert run_trial(recipe, tmp_path / "run")
    model, url = str(tmp_path / "run"), server.put(shards)
    pattern = "/train-{000..002}.{tar,parquet}"
    outputs = [tmp_path / name for name in ("of-disk", "of-s3")]
    for place, out in ((str(shards) + pattern, outputs[0]), (url + pattern, outputs[1])):
        ended = flatvq("encode", model, place, str(out), "--shard-size", "10")
        assert ended.returncode == 0, ended.stderr
        assert "Unclosed" not in ended.stderr
    contents = [{path.name: path.read_bytes() for path in out.iterdir()} for out in outputs]
    assert contents[0] == contents[1]
