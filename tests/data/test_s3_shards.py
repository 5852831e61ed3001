"""Shards in S3 give what local ones give, and each fault is one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.data.dataset_files import COUNT, encoded
from tests.data.s3_server import REASON, SECRET, S3Server, file_system, s3_server
from tests.data.shard_files import named, open_shards, tar_bytes, write_parquets, write_tars

from flatvq.data import DataSplit, TrainingCrops, remote
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs", reason=REASON)
pytest.importorskip("moto.server", reason=REASON)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.0,) * 9)
    # botocore and s3fs do not repeat requests themselves, so that failures reach flatvq.
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    settings = {"retries": {"max_attempts": 0}, "connect_timeout": 1, "read_timeout": 0.3}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": settings})
    with s3_server() as own:
        for name, value in own.environment().items():
            monkeypatch.setenv(name, value)
        yield own
        file_system()


@pytest.fixture
def folder(tmp_path: Path, files: list[bytes]) -> Path:
    write_parquets(tmp_path / "shards", files[12:], 6)
    return write_tars(tmp_path / "shards", files[:12], 6)


def crops(data: DataSplit) -> list[np.ndarray]:
    source = TrainingCrops(data.training, DataRecipe(crop=16), seed=0, batch_size=6)
    return [batch.pixels.numpy() for batch in source.batches(0, 6)]


def refusal(path: str) -> str:
    """Return the line that says why shards cannot be opened."""
    with pytest.raises(FlatvqError) as caught:
        open_shards(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("pattern", ["", "/*", "/train-{000..001}.{tar,parquet}", "/train-00[0-9].*"])
def test_a_bucket_gives_what_a_folder_gives(server: S3Server, folder: Path, pattern: str) -> None:
    local = open_shards(folder, cache_mib=0)
    data = open_shards(server.put(folder) + pattern, cache_mib=0)
    assert len(data.training) + len(data.validation) == COUNT
    assert data.training.names == local.training.names
    assert data.training.fingerprint == local.training.fingerprint
    for own, other in zip(crops(data), crops(local), strict=True):
        assert np.array_equal(own, other)


def test_only_shards_that_changed_are_indexed_again(server: S3Server, folder: Path) -> None:
    url = server.put(folder)
    first = open_shards(url)
    server.reads.clear()
    assert open_shards(url, cache_mib=0).training.fingerprint == first.training.fingerprint
    assert server.reads == []
    other = [encoded(np.full((20, 24, 3), 9 * number, np.uint8)) for number in range(6)]
    file_system().pipe_file("bucket/set/train-000.tar", tar_bytes(named(other)))
    assert open_shards(url, cache_mib=0).training.fingerprint != first.training.fingerprint
    assert set(server.reads) == {"/bucket/set/train-000.tar"}


def test_requests_are_repeated(server: S3Server, folder: Path) -> None:
    url = server.put(folder)
    expected = crops(open_shards(folder, cache_mib=0))
    file_system()
    server.failures = 2
    data = open_shards(url, cache_mib=0)
    server.every = 3
    for own, other in zip(crops(data), expected, strict=True):
        assert np.array_equal(own, other)
    assert "a failure" in server.reads


def test_a_server_that_stays_unavailable(server: S3Server, folder: Path) -> None:
    url = server.put(folder)
    data = open_shards(url, cache_mib=0)
    server.failures = 10**6
    with pytest.raises(FlatvqError, match=r"shard 's3://bucket/set/.*' cannot be read \(.*\): restore it"):
        crops(data)
    assert refusal(url).startswith("'s3://bucket/set' cannot be reached (ClientError: ")


def test_a_silent_server_is_given_up(server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.put(folder)
    data = open_shards(url, cache_mib=0)
    monkeypatch.setattr(remote, "_WAITS", ())
    server.silent = True
    with pytest.raises(FlatvqError, match=r"shard 's3://.*' cannot be read \(.*[Tt]ime.*\): restore it"):
        crops(data)


def test_missing_buckets_and_shards(server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_WAITS", (1e6,))  # none of them is asked for again
    server.put(folder)
    for url in ("s3://no-bucket/*.tar", "s3://no-bucket/a.tar", "s3://bucket/set/*.tar.gz"):
        assert refusal(url) == f"no .tar or .parquet shard at '{url}': check data.path"
    assert refusal("s3://no-bucket").startswith("'s3://no-bucket' is neither a folder nor a .tar or .parquet")
    message = "no .tar or .parquet shard at 's3://bucket/set/train-002.tar': check data.path"
    assert refusal("s3://bucket/set/train-{000..002}.tar") == message


def test_missing_credentials(server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_WAITS", (1e6,))
    url = server.put(folder)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    file_system()
    for path in (url, f"{url}/*.tar", f"{url}/train-000.tar"):
        assert refusal(path) == (
            f"'{path}' cannot be reached (NoCredentialsError: Unable to locate credentials): "
            "check data.path and the credentials"
        )


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense"])
def test_a_wrong_endpoint(
    server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    url = server.put(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    file_system()
    for path in (url, f"{url}/*.tar", f"{url}/train-000.tar"):
        assert refusal(path).startswith(f"'{path}' cannot be reached (")


def test_a_shard_that_disappears_during_training(server: S3Server, folder: Path) -> None:
    url = server.put(folder)
    data = open_shards(url, cache_mib=0)
    file_system().rm_file("bucket/set/train-000.tar")
    with pytest.raises(FlatvqError, match=r"shard 's3://bucket/set/train-000.tar' cannot be read .*resumes"):
        crops(data)


def test_a_shard_that_changes_during_training(server: S3Server, folder: Path, files: list[bytes]) -> None:
    url = server.put(folder)
    data = open_shards(url, cache_mib=0)
    fs = file_system()
    whole = fs.cat_file("bucket/set/train-000.tar")
    fs.pipe_file("bucket/set/train-000.tar", whole.replace(files[2][40:], bytes(len(files[2]) - 40)))
    crops(data)
    (changed,) = data.late_file_statuses
    assert changed.name == "train-000.tar/0002.png"
    assert changed.reason == "has changed since the index of its shard was made"
    fs.pipe_file("bucket/set/train-000.tar", whole[:1024])
    with pytest.raises(
        FlatvqError, match=r"shard 's3://bucket/set/train-000.tar' (is shorter|cannot be read)"
    ):
        crops(data)


def test_credentials_in_a_url_are_refused_and_hidden(server: S3Server, folder: Path) -> None:
    server.put(folder)
    with pytest.raises(ValueError, match=r"path=s3://AKID:\*\*\*@bucket/set holds credentials"):
        open_shards(f"s3://AKID:{SECRET}@bucket/set")
