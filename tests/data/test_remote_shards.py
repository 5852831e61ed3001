"""Shards behind URLs: ranges are read from a server, with retries, and changes are noticed."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tests.data.dataset_files import COUNT, encoded
from tests.data.shard_files import open_shards, parquet_bytes, write_parquets, write_tars

from flatvq.data import DataSplit, TrainingCrops, remote
from flatvq.errors import FlatvqError
from flatvq.recipe import DataRecipe

fsspec = pytest.importorskip("fsspec")


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files` with ranges and tags, and fails as often as the test says."""

    def _answer(self, with_content: bool) -> None:
        server = self.server
        name = self.path.removeprefix("/")
        if server.failures > 0:
            server.failures -= 1
            self.send_error(503)
            return
        if name not in server.files:
            self.send_error(404)
            return
        content = server.files[name]
        header = self.headers.get("Range", "") if server.ranges else ""
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
        part = content[int(byte_range[1]) : int(byte_range[2]) + 1] if byte_range else content
        self.send_response(206 if byte_range else 200)
        if byte_range:
            self.send_header("Content-Range", f"bytes {byte_range[1]}-{byte_range[2]}/{len(content)}")
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if with_content:
            server.requests.append((name, len(part)))
            self.wfile.write(part)

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("FLATVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0, 0.0))
    own = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.files, own.failures, own.ranges, own.requests = {}, 0, True, []
    own.url = f"http://127.0.0.1:{own.server_port}"
    thread = threading.Thread(target=own.serve_forever, daemon=True)
    thread.start()
    fsspec.filesystem("http").clear_instance_cache()
    yield own
    own.shutdown()
    own.server_close()
    thread.join()


def crops(data: DataSplit) -> list[np.ndarray]:
    source = TrainingCrops(data.training, DataRecipe(crop=16), seed=0, batch_size=6)
    return [batch.pixels.numpy() for batch in source.batches(0, 6)]


@pytest.fixture
def folder(tmp_path: Path, files: list[bytes]) -> Path:
    write_parquets(tmp_path / "shards", files[12:], 6)
    return write_tars(tmp_path / "shards", files[:12], 6)


def serve(server: ThreadingHTTPServer, folder: Path) -> str:
    """Serve all shards of a folder; return their pattern."""
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return server.url + "/train-{000..001}.{parquet,tar}"


def test_a_server_gives_what_a_folder_gives(server: ThreadingHTTPServer, folder: Path) -> None:
    local = open_shards(folder, cache_mib=0)
    data = open_shards(serve(server, folder), cache_mib=0)
    assert data.training.names == local.training.names
    assert data.training.fingerprint == local.training.fingerprint
    assert len(data.training) + len(data.validation) == COUNT
    server.requests.clear()
    for own, other in zip(crops(data), crops(local), strict=True):
        assert np.array_equal(own, other)
    total = sum(map(len, server.files.values()))
    assert sum(size for _, size in server.requests) < 2.5 * total  # two epochs


def test_a_shard_is_indexed_again_if_its_tag_changes(server: ThreadingHTTPServer, folder: Path) -> None:
    pattern = serve(server, folder)
    first = open_shards(pattern)
    server.requests.clear()
    again = open_shards(pattern, cache_mib=0)
    assert server.requests == []  # which counts contents, not heads
    assert again.training.fingerprint == first.training.fingerprint
    other = [encoded(np.full((20, 24, 3), 9 * number, np.uint8)) for number in range(6)]
    server.files["train-000.parquet"] = parquet_bytes(other)
    changed = open_shards(pattern, cache_mib=0)
    assert {name for name, _ in server.requests} == {"train-000.parquet"}
    assert changed.training.fingerprint != first.training.fingerprint


def test_requests_are_repeated(server: ThreadingHTTPServer, folder: Path) -> None:
    pattern = serve(server, folder)
    server.failures = 3
    data = open_shards(pattern, cache_mib=0)
    expected = crops(data)
    server.failures = 3
    for own, other in zip(crops(data), expected, strict=True):
        assert np.array_equal(own, other)


def test_a_server_that_fails_is_one_line(server: ThreadingHTTPServer, folder: Path) -> None:
    pattern = serve(server, folder)
    data = open_shards(pattern, cache_mib=0)
    server.failures = 10**6
    with pytest.raises(
        FlatvqError, match=r"shard 'http://.*' cannot be read \(.*503.*\): restore it"
    ) as caught:
        crops(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(FlatvqError, match=r"'http://.*' cannot be reached \(.*\): check data.path") as caught:
        open_shards(pattern)
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_not_there(server: ThreadingHTTPServer, folder: Path) -> None:
    serve(server, folder)
    with pytest.raises(FlatvqError, match=r"no .tar or .parquet shard at 'http://.*/train-002.tar'"):
        open_shards(server.url + "/train-{000..002}.tar")


def test_a_server_without_ranges_is_refused(server: ThreadingHTTPServer, folder: Path) -> None:
    pattern = serve(server, folder)
    data = open_shards(pattern, cache_mib=0)
    server.ranges = False
    with pytest.raises(FlatvqError, match=r"the server of shard '.*' does not read ranges of bytes: copy"):
        crops(data)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "http", raising=False)
    message = (
        r"'http://here/a.tar' needs a package that is not installed \(.*\): pip install 'flatvq\[data\]'"
    )
    with pytest.raises(FlatvqError, match=message):
        open_shards("http://here/a.tar")


def test_memory_of_fsspec(files: list[bytes], folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/shards/{path.name}", path.read_bytes())
    local = open_shards(folder, cache_mib=0)
    for pattern in ("memory://shards", "memory://shards/*"):
        data = open_shards(pattern, cache_mib=0)
        assert data.training.fingerprint == local.training.fingerprint
        assert data.training.names == local.training.names
        for own, other in zip(crops(data), crops(local), strict=True):
            assert np.array_equal(own, other)
    memory.rm("/shards", recursive=True)
