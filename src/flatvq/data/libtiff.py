"""Errors of libtiff, of which Pillow passes over some: rows that it could not decode then hold any pixels.

libtiff prints errors and warnings unless it has handlers for them. They are set through Pillow, as libjpeg is
reached (`flatvq.data.native`).
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from functools import cache

from PIL import _imaging

__all__ = ["error_since", "listen"]

_heard = threading.local()


def listen() -> None:
    """Forget the errors that libtiff reported in this thread so far."""
    _take_handlers()
    _heard.error = None


def error_since() -> str | None:
    """Return where in libtiff the first error since `listen` was, such as `Fax4Decode`; None without one."""
    error: str | None = _heard.error
    return error


def _note(module: bytes | None, text: bytes | None, values: int | None) -> None:
    if getattr(_heard, "error", None) is None:
        _heard.error = (module or b"libtiff").decode("ascii", "replace")


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note)


@cache
def _take_handlers() -> None:
    """Have libtiff call `_note` for errors and nothing for warnings; where it is not found, it prints."""
    with suppress(OSError, AttributeError):
        pillow = ctypes.CDLL(_imaging.__file__)
        pillow.TIFFSetErrorHandler(_HANDLER)
        pillow.TIFFSetWarningHandler(None)
