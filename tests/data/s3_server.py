"""A server with the API of S3 in a thread, which fails or stays silent as a test says."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REASON = "needs s3fs and moto[server], which need other versions than those of constraints.txt"
SECRET = "wJalr/XUtnFEMI+bPxRfiCY"
UNAVAILABLE = b"<Error><Code>ServiceUnavailable</Code><Message>Please try again</Message></Error>"


class S3Server:
    """Serves buckets. Only reads are counted and can fail."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        self.failures = 0
        """How many of the next reads fail with status 503."""
        self.every = 0
        """Every how many reads one fails with status 503; 0 for none."""
        self.reads: list[str] = []
        """The paths of all reads of contents."""
        self.silent = False
        """Whether reads get no answer."""
        self._spoken = threading.Event()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            if environ["REQUEST_METHOD"] == "GET" and "list-type" not in environ["QUERY_STRING"]:
                self.reads.append(environ["PATH_INFO"])
            if self.silent:
                self._spoken.wait()
            if self.failures > 0 or (self.every and len(self.reads) % self.every == 0):
                self.failures -= 1
                self.reads.append("a failure")
                start("503 Service Unavailable", [("Content-Type", "application/xml")])
                return [UNAVAILABLE]
        return self._app(environ, start)

    def put(self, folder: Path, bucket: str = "bucket", prefix: str = "set") -> str:
        """Copy the files of a folder; return the URL of their folder."""
        fs = file_system()
        if not fs.exists(bucket):
            fs.mkdir(bucket)
        for path in folder.iterdir():
            fs.pipe_file(f"{bucket}/{prefix}/{path.name}", path.read_bytes())
        return f"s3://{bucket}/{prefix}"

    def close(self) -> None:
        self._spoken.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self) -> dict[str, str]:
        """Return the variables from which botocore reads the server and the credentials."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # it has the credentials of a virtual machine
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def file_system() -> Any:
    """Return a new file system of S3, with the variables as they are now."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    return s3fs.S3FileSystem()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    try:
        yield server
    finally:
        server.close()
