"""Requests to servers of files: repeated while the fault may pass, and errors in one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from flatvq.data.reasons import printable, reason_of
from flatvq.errors import FlatvqError

__all__ = ["limit_silence", "repeated", "unreachable"]

T = TypeVar("T")

# Seconds before each further attempt, a minute in all.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# Seconds after which there is no further attempt: a server that does not answer takes long to fail.
_LONGEST = 120.0
# Seconds without a byte after which HTTP fails. Those of S3 and GCS are settings of their packages.
_SILENCE = 30.0
# Codes of HTTP: request timeout, too early, too many requests.
_TEMPORARY = (408, 425, 429)
# Errors that come again at each attempt.
_FILE_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError)
_PERMANENT = (*_FILE_ERRORS, NotImplementedError, ImportError, ValueError)
# Classes of errors of botocore and of google-auth, by name because the packages may be missing. Those that
# concern the connection may pass; others, such as missing credentials, do not.
_CLIENT = {"BotoCoreError", "GoogleAuthError"}
_CONNECTION = {"HTTPClientError", "ConnectionError", "IncompleteReadError", "TransportError"}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "data", "https": "data"}


def repeated(request: Callable[[], T]) -> T:
    """Perform a request, and repeat it for about a minute while it fails in a way that may pass.

    Args:
        request: the request; file systems raise errors of any kind.

    Raises:
        Exception: the error of the last attempt.
    """
    start = time.monotonic()
    for wait in _WAITS:
        try:
            return request()
        except Exception as error:
            if _is_permanent(error) or time.monotonic() - start > _LONGEST:
                raise
            time.sleep(wait)
    return request()


def limit_silence(fs: Any) -> None:
    """Let requests of a file system of HTTP fail if the server sends nothing for half a minute.

    Args:
        fs: any fsspec file system.
    """
    if not {"http", "https"} & set(fs.protocol):
        return
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    fs.client_kwargs.setdefault("timeout", timeout)


def unreachable(url: str, error: Exception, key: str) -> FlatvqError:
    """Describe why shards cannot be listed or opened.

    Args:
        url: their URL.
        error: what the file system raised.
        key: the name of the setting with the URL.
    """
    if isinstance(error, ImportError):
        what = f"'{printable(url)}' needs a package that is not installed ({reason_of(error)})"
        extra = _EXTRAS.get(url.partition("://")[0].lower())
        remedy = f"pip install 'flatvq[{extra}]'" if extra else "install the package that fsspec names"
        return FlatvqError(what, remedy)
    if _is_missing(error):
        return FlatvqError(f"no .tar or .parquet shard at '{printable(url)}'", f"check {key}")
    what = f"'{printable(url)}' cannot be reached ({reason_of(error)})"
    return FlatvqError(what, f"check {key} and the {'credentials' if _is_refused(error) else 'connection'}")


def _is_permanent(error: Exception) -> bool:
    """Return whether a repeated request would fail in the same way."""
    # For HTTP, fsspec raises FileNotFoundError for all errors, from the cause.
    cause = error.__cause__ or error
    status = _status_of(cause)
    if status is not None:
        return 300 <= status < 500 and status not in _TEMPORARY
    names = _names_of(cause)
    return isinstance(cause, _PERMANENT) or bool(names & _CLIENT and not names & _CONNECTION)


def _is_missing(error: Exception) -> bool:
    """Return whether there is no such file, folder or bucket."""
    status = _status_of(error.__cause__ or error)
    return status == 404 if status is not None else isinstance(error, FileNotFoundError)


def _is_refused(error: Exception) -> bool:
    """Return whether credentials are missing or not accepted."""
    cause = error.__cause__ or error
    names = _names_of(cause)
    client = bool(names & _CLIENT and not names & _CONNECTION)
    return client or isinstance(error, PermissionError) or _status_of(cause) in (400, 401, 403)


def _status_of(error: BaseException) -> int | None:
    """Return the status of HTTP that an error of aiohttp, botocore, gcsfs or Azure has; None without one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of botocore
        metadata = response.get("ResponseMetadata")
        status = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
        return status if isinstance(status, int) else None
    for name in ("status", "code", "status_code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and 100 <= status < 600:
            return status
    return None


def _names_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
